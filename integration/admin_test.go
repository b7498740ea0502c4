//go:build linux

package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// admin is where a server's admin address is to be found.
type admin struct{ url string }

// withAdmin gives a server an admin address on a free port, and flags.
func withAdmin(t *testing.T, a *admin, flags ...string) option {
	return func(l *launch, s *service) {
		port := freePort(t)
		a.url = fmt.Sprintf("http://127.0.0.1:%d", port)
		l.args = append(l.args, flags...)
		l.args = append(l.args, fmt.Sprintf("--admin=:%d", port))
		s.started = func() { // a moment before it does there
			if !poll(func() bool {
				resp, err := http.Get(a.url + "/healthz")
				if err == nil {
					resp.Body.Close()
				}
				return err == nil
			}) {
				t.Fatal("the admin address does not answer")
			}
		}
	}
}

// ask returns the status and the body of what is at path.
func (a *admin) ask(t *testing.T, path string) (int, string) {
	t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(a.url + path)
	check(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	check(t, err)
	return resp.StatusCode, string(body)
}

// stream opens what has no end by itself.
func (a *admin) stream(t *testing.T, path string) *bufio.Reader {
	t.Helper()
	resp, err := http.Get(a.url + path)
	check(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", path, resp.Status)
	}
	return bufio.NewReader(resp.Body)
}

// metric is the value of a metric, with its labels as they are written.
func (a *admin) metric(t *testing.T, name string) float64 {
	t.Helper()
	_, body := a.ask(t, "/metrics")
	for line := range strings.Lines(body) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			check(t, err)
			return n
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// eventually waits until a metric has that value: a client sees the end of its connection
// a moment before or after it counts as one that has ended.
func (a *admin) eventually(t *testing.T, name string, want float64) {
	t.Helper()
	if !poll(func() bool { return a.metric(t, name) == want }) {
		t.Errorf("%s is %v, want %v", name, a.metric(t, name), want)
	}
}

func TestMetrics(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		var a admin
		s := serve(t, program, withAdmin(t, &a))
		check(t, upload(s.port, "hello"))
		s.outcome(received("hello"))
		check(t, upload(s.port))
		s.outcome(received(""))
		check(t, s.connect().hear(greeting).send("<script>").rst())
		s.outcome(failed)
		c := s.connect().greet().send("12345678").taken().must(t)
		a.eventually(t, "accio_received_bytes_total", 5+8)
		a.eventually(t, "accio_connections_in_flight", 1)
		slots := a.metric(t, "accio_slots")
		if free := a.metric(t, "accio_slots_free"); free != slots-1 {
			t.Errorf("of %v slots %v are free", slots, free)
		}
		for outcome, want := range map[string]float64{"received": 1, "empty": 1, "protocol": 1, "idle": 0} {
			a.eventually(t, fmt.Sprintf("accio_connections_total{outcome=%q}", outcome), want)
		}
		for _, name := range []string{"handshake", "transfer"} {
			if n := a.metric(t, "accio_"+name+"_duration_seconds_count"); n < 2 {
				t.Errorf("%v %ss were measured", n, name)
			}
		}
		if program == "server" {
			a.eventually(t, "accio_commit_duration_seconds_count", 2)
			var disk unix.Statfs_t
			check(t, unix.Statfs(s.dir.path, &disk))
			total := float64(disk.Blocks) * float64(disk.Bsize)
			if free := a.metric(t, "accio_disk_free_bytes"); free <= 0 || free > total {
				t.Errorf("of %v bytes %v are free", total, free)
			}
		} else if _, body := a.ask(t, "/metrics"); strings.Contains(body, "accio_commit") || strings.Contains(body, "accio_disk") {
			t.Error("it measures what it does not do")
		}
		check(t, c.halfClose().fin())
		s.stop(received("12345678"))
	})
}

// Whose name is taken is counted apart from what the storage fails.
func TestMetricsOfAConflict(t *testing.T) {
	busy(t)
	var a admin
	s := serve(t, "server", withAdmin(t, &a, "--continue", "--log-format=json"))
	s.dir.put("1.file", "another's")
	check(t, s.connect().greet().send("mine").halfClose().rst())
	has(t, s.record(), map[string]any{"level": "ERROR", "msg": "connection ended", "outcome": "conflict"})
	for outcome, want := range map[string]float64{"conflict": 1, "storage": 0} {
		a.eventually(t, fmt.Sprintf("accio_connections_total{outcome=%q}", outcome), want)
	}
	s.halt(syscall.SIGTERM)
	s.dir.holds(map[string]string{"1.file": "another's"})
}

func TestReadiness(t *testing.T) {
	busy(t)
	ready := func(t *testing.T, a admin, want int, says string) {
		t.Helper()
		var code int
		var body string
		if !poll(func() bool {
			code, body = a.ask(t, "/readyz")
			return code == want && strings.Contains(body, says)
		}) {
			t.Errorf("%d %q; want %d and %q", code, body, want, says)
		}
		if code, _ := a.ask(t, "/healthz"); code != 200 {
			t.Errorf("it is not alive: %d", code)
		}
	}
	t.Run("in a drain", func(t *testing.T) {
		var a admin
		s := serve(t, "server", withAdmin(t, &a, "--drain=1h"))
		ready(t, a, 200, "ready")
		c := s.connect().greet().send("hello, ").taken().must(t)
		page := a.stream(t, "/api/events")
		s.signal(syscall.SIGTERM)
		ready(t, a, 503, "stops")
		// Who watches still does.
		for line := ""; !strings.Contains(line, `"unready":"it stops"`); {
			var err error
			line, err = page.ReadString('\n')
			check(t, err)
		}
		check(t, c.send("world").halfClose().fin())
		if code := s.exit(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		s.left(received("hello, world"))
	})
	t.Run("without its directory", func(t *testing.T) {
		var a admin
		s := serve(t, "server", withAdmin(t, &a))
		ready(t, a, 200, "ready")
		s.dir.holds(nil) // a probe leaves nothing
		check(t, os.Remove(s.dir.path))
		ready(t, a, 503, "files cannot be saved")
		s.halt(syscall.SIGTERM)
		s.silent()
	})
	t.Run("without space", func(t *testing.T) {
		var a admin
		s := serve(t, "server", withAdmin(t, &a, "--min-free=1PiB"))
		ready(t, a, 503, "left free")
		s.stop()
	})
}

// An end is within a second whatever goes on at the admin address; halt looks at that.
func TestAStopWhileSomebodyWatches(t *testing.T) {
	busy(t)
	var a admin
	s := serve(t, "server", withAdmin(t, &a, "--follow", "--admin-pprof"))
	s.connect().greet().send("hello").taken().must(t)
	s.dir.awaitHidden(1)
	a.stream(t, "/api/events")
	followed := a.stream(t, "/follow/1")
	profile := make(chan error, 1)
	go func() {
		resp, err := http.Get(a.url + "/debug/pprof/profile?seconds=60")
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		profile <- err
	}()
	got := make([]byte, 5)
	_, err := io.ReadFull(followed, got)
	check(t, err)
	s.halt(syscall.SIGTERM)
	if rest, err := io.ReadAll(followed); err == nil {
		t.Errorf("what was cut off ends well, after %q%q", got, rest)
	}
	<-profile
	s.left(failed)
}

// Whatever keeps its connection keeps no health check from being answered.
func TestProbesAreAnsweredWhoeverIsConnected(t *testing.T) {
	busy(t)
	var a admin
	s := serve(t, "server", withAdmin(t, &a))
	for range 40 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(a.url, "http://"))
		check(t, err)
		defer conn.Close()
		check(t, conn.SetDeadline(time.Now().Add(patience)))
		_, err = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
		check(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		check(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		check(t, err)
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		begun := time.Now()
		if code, body := a.ask(t, path); code != 200 {
			t.Errorf("%s: %d %q", path, code, body)
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("%s took %v", path, took)
		}
	}
	s.stop()
}

func TestFollowing(t *testing.T) {
	busy(t)
	var a admin
	s := serve(t, "server", withAdmin(t, &a, "--follow"))
	c := s.connect().greet().send("hello, ").taken().must(t)
	s.dir.awaitHidden(1)
	var state struct{ Connections []struct{ Follow string } }
	if !poll(func() bool {
		_, body := a.ask(t, "/api/connections")
		check(t, json.Unmarshal([]byte(body), &state))
		return len(state.Connections) == 1 && state.Connections[0].Follow == "/follow/1"
	}) {
		t.Fatalf("there is nothing to follow: %+v", state)
	}
	upload := a.stream(t, "/follow/1")
	got := make([]byte, 7)
	_, err := io.ReadFull(upload, got)
	check(t, err)
	check(t, c.send("world").halfClose().fin())
	rest, err := io.ReadAll(upload)
	check(t, err)
	if text := string(got) + string(rest); text != "hello, world" {
		t.Errorf("what was followed is %q", text)
	}
	s.stop(received("hello, world"))

	var b admin
	s = serve(t, "server", withAdmin(t, &b))
	c = s.connect().greet().send("x").taken().must(t)
	s.dir.awaitHidden(1)
	if code, _ := b.ask(t, "/follow/1"); code != 404 {
		t.Errorf("without --follow: %d", code)
	}
	check(t, c.halfClose().fin())
	s.stop(received("x"))
}

// To be watched costs no copy of the payload.
func TestThePayloadOfWhoIsWatchedDoesNotPassThroughTheProgram(t *testing.T) {
	busy(t)
	var a admin
	s := serve(t, "server", plain, withAdmin(t, &a))
	const size, bound = 64 << 20, 1 << 20
	read, written := s.field("io", "rchar"), s.field("io", "wchar")
	check(t, s.connect().greet().pour(size/len(block), block).halfClose().fin())
	if n := s.field("io", "rchar") - read; n > bound {
		t.Errorf("the program has read %d bytes to save %d", n, size)
	}
	if n := s.field("io", "wchar") - written; n > bound {
		t.Errorf("the program has written %d bytes to save %d", n, size)
	}
	s.stop(received(strings.Repeat(string(block), size/len(block))))
}

func TestManyConnectionsAreShownInParts(t *testing.T) {
	busy(t)
	const n = 250
	var a admin
	s := serve(t, "server", withAdmin(t, &a))
	clients := queue(t, s.port, n)
	a.eventually(t, "accio_connections_in_flight", n)
	page := a.stream(t, "/api/events")
	line, err := page.ReadString('\n')
	check(t, err)
	type answer struct {
		InFlight    int `json:"in_flight"`
		More        bool
		Connections []struct{ Number int }
	}
	var got answer
	check(t, json.Unmarshal([]byte(strings.TrimPrefix(line, "data: ")), &got))
	if got.InFlight != n || !got.More || len(got.Connections) != 100 || got.Connections[0].Number != n {
		t.Errorf("the page has %d of %d", len(got.Connections), got.InFlight)
	}
	want := n
	for more, before := true, ""; more; {
		_, body := a.ask(t, "/api/connections?limit=90"+before)
		got = answer{}
		check(t, json.Unmarshal([]byte(body), &got))
		for _, c := range got.Connections {
			if c.Number != want {
				t.Fatalf("%d where %d should be", c.Number, want)
			}
			want--
		}
		more, before = got.More, fmt.Sprintf("&before=%d", want+1)
	}
	if want != 0 {
		t.Errorf("%d are shown nowhere", want)
	}
	s.fail(clients...)
	s.stop()
}

func TestAnAdminAddressThatCannotBe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	port := strconv.Itoa(freePort(t))
	used := newAdminPort(t)
	for _, tt := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"no address", []string{"--admin=here"}, 2, "HOST:PORT"},
		{"in use", []string{"--admin=" + used}, 1, used},
		{"nobody's", []string{"--admin=192.0.2.1:9100"}, 1, "192.0.2.1:9100"},
		{"nobody's, checked", []string{"--admin=192.0.2.1:9100", "--check"}, 1, "192.0.2.1:9100"},
		{"to follow nowhere", []string{"--follow"}, 2, "--admin"},
		{"profiles nowhere", []string{"--admin-pprof"}, 2, "--admin"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := launch{program: "server", args: append([]string{port, dir}, tt.args...)}.start(t)
			if said := p.complaint(); !strings.Contains(said, tt.says) {
				t.Errorf("it says %q, and not %q", said, tt.says)
			}
			if code := p.exit(); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			p.silent()
		})
	}
}

// newAdminPort is an address that is in use.
func newAdminPort(t *testing.T) string {
	t.Helper()
	srv := &http.Server{Addr: fmt.Sprintf("127.0.0.1:%d", freePort(t)), ReadHeaderTimeout: time.Second}
	go srv.ListenAndServe()
	t.Cleanup(func() { srv.Close() })
	if !poll(func() bool {
		resp, err := http.Get("http://" + srv.Addr)
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	}) {
		t.Fatal("the address is not in use")
	}
	return srv.Addr
}

// Nor do those who ask for nothing, however many they are.
func TestProbesAreAnsweredHoweverManyAreSilent(t *testing.T) {
	busy(t)
	for _, sends := range []string{"", "GET /healthz HT"} {
		t.Run(fmt.Sprintf("%q", sends), func(t *testing.T) {
			var a admin
			s := serve(t, "server", withAdmin(t, &a))
			ctx, cancel := context.WithCancel(t.Context())
			var silent sync.WaitGroup
			defer silent.Wait()
			defer cancel()
			var come sync.WaitGroup
			const many = 500
			for range many {
				come.Add(1)
				silent.Go(func() {
					var d net.Dialer
					for i := 0; ctx.Err() == nil; i++ {
						conn, err := d.DialContext(ctx, "tcp", strings.TrimPrefix(a.url, "http://"))
						if i == 0 {
							come.Done()
						}
						if err != nil {
							if ctx.Err() == nil {
								t.Error(err)
							}
							return
						}
						stop := context.AfterFunc(ctx, func() { conn.Close() })
						io.WriteString(conn, sends)
						io.Copy(io.Discard, conn) // until it is turned out
						stop()
						conn.Close()
					}
				})
			}
			come.Wait()
			for range 3 {
				begun := time.Now()
				if code, body := a.ask(t, "/healthz"); code != 200 {
					t.Errorf("%d %q", code, body)
				}
				// All those before it take 0.8 s for this. If each kept its place for half a
				// second it were 8.
				if took := time.Since(begun); took > 4*time.Second {
					t.Errorf("it took %v", took)
				}
			}
			cancel()
			silent.Wait()
			s.stop()
		})
	}
}

// A client that a proxy has told of is shown from then on, also before its handshake.
func TestAClientBehindAProxyIsSeenAtOnce(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		var a admin
		s := serve(t, program, withAdmin(t, &a, "--proxy-protocol=127.0.0.1"))
		type row struct{ Peer, Stage string }
		shows := func(want row) {
			t.Helper()
			var got struct{ Connections []row }
			if !poll(func() bool {
				_, body := a.ask(t, "/api/connections")
				check(t, json.Unmarshal([]byte(body), &got))
				return len(got.Connections) == 1 && got.Connections[0] == want
			}) {
				t.Errorf("it shows %v, want %v", got.Connections, want)
			}
		}
		c := s.connect()
		shows(row{c.conn.LocalAddr().String(), "handshake"})
		c.send(headerV2("203.0.113.7")).hear(greeting).must(t)
		shows(row{"203.0.113.7:4321", "handshake"})
		c.send(header).hear(greeting).must(t)
		shows(row{"203.0.113.7:4321", "transfer"})
		check(t, c.send("hello").halfClose().fin())
		s.stop(received("hello"))
	})
}

// Who waits in the header of a proxy has a place like anybody, and is to be seen; and what
// is wrong with it is told, and not what stages inside have made of it.
func TestAConnectionWithoutItsProxysHeaderIsSeen(t *testing.T) {
	busy(t)
	admin := freePort(t)
	s := serve(t, "server", with("--proxy-protocol=127.0.0.1", "--max-conns=3", "--max-conns-per-ip=1", fmt.Sprintf("--admin=:%d", admin)))
	clients := queue(t, s.port, 3)
	metrics := func() string {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", admin))
		check(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		check(t, err)
		return string(body)
	}
	if !poll(func() bool { return strings.Contains(metrics(), "\naccio_slots_free 0\n") }) {
		t.Errorf("all places are taken, and the metrics say %s", metrics())
	}
	for _, c := range clients {
		check(t, c.send("no header\r\n").rst())
	}
	if want := "\naccio_connections_total{outcome=\"protocol\"} 3\n"; !poll(func() bool { return strings.Contains(metrics(), want) }) {
		t.Errorf("no %q in %s", want, metrics())
	}
	s.quit()
}
