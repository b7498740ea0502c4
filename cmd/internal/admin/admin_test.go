package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/accio-go/accio/fs"
	"github.com/accio-go/accio/fs/follow"
	"github.com/accio-go/accio/stage"
)

// fakeDir is a directory with which everything can be wrong.
type fakeDir struct {
	store   *fs.Store
	err     error
	free    int64
	freeErr error
	hang    chan struct{} // Create waits for its close, unless it is nil
	created atomic.Int64
}

func newFakeDir(t *testing.T) *fakeDir {
	store, err := fs.New(fs.NewMemory(), "/d")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return &fakeDir{store: store, free: 1 << 30}
}

func (d *fakeDir) Create(ctx context.Context, name string) (fs.Pending, error) {
	d.created.Add(1)
	if d.hang != nil {
		<-d.hang
	}
	if d.err != nil {
		return nil, d.err
	}
	return d.store.Create(ctx, name)
}

func (d *fakeDir) Free() (int64, error) { return d.free, d.freeErr }

// watched is a Server that is at work on an address of its own.
type watched struct {
	*Server
	url    string
	stop   context.CancelFunc // of what is watched
	closed func()
}

func start(t *testing.T, cfg Config, profiles bool) *watched {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	if cfg.OnError == nil {
		cfg.OnError = func(err error) { t.Error(err) }
	}
	s := newServer(ctx, cfg)
	s.serve(ln, profiles)
	w := &watched{Server: s, url: "http://" + ln.Addr().String(), stop: stop}
	open := true
	w.closed = func() {
		if open {
			open = false
			s.Close()
		}
	}
	t.Cleanup(w.closed)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return w
}

func (w *watched) get(t *testing.T, path string, edit ...func(*http.Request)) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range edit {
		e(req)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestReady(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*fakeDir, *Server)
		says   string // empty: it is ready
	}{
		{"as it is", func(*fakeDir, *Server) {}, ""},
		{"exactly what is to be left", func(d *fakeDir, _ *Server) { d.free = 1 << 20 }, ""},
		{"less than is to be left", func(d *fakeDir, _ *Server) { d.free = 1<<20 - 1 }, "left free"},
		{"no way to tell what is free", func(d *fakeDir, _ *Server) { d.freeErr = errors.ErrUnsupported }, ""},
		{"no file can be created", func(d *fakeDir, _ *Server) { d.err = os.ErrPermission }, "permission denied"},
		{"it does not listen", func(_ *fakeDir, s *Server) { s.listening.Store(false) }, "does not listen"},
		{"nothing is left", func(d *fakeDir, s *Server) { d.free, s.MinFree = 0, 0 }, "left free"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := newFakeDir(t)
			s := newServer(t.Context(), Config{Directory: dir, MinFree: 1 << 20})
			s.listening.Store(true)
			tt.change(dir, s)
			w := httptest.NewRecorder()
			s.handler(false).ServeHTTP(w, httptest.NewRequest("GET", "http://x/readyz", nil))
			code := http.StatusOK
			if tt.says != "" {
				code = http.StatusServiceUnavailable
			}
			if body := w.Body.String(); w.Code != code || !strings.Contains(body, tt.says) || strings.Count(body, "\n") != 1 {
				t.Errorf("%d: %q; want %d and %q", w.Code, body, code, tt.says)
			}
		})
	}
}

func TestReadyUntilItStops(t *testing.T) {
	w := start(t, Config{}, false)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	expect := func(code int, says string) {
		t.Helper()
		if resp, body := w.get(t, "/readyz"); resp.StatusCode != code || !strings.Contains(body, says) {
			t.Errorf("%d: %q; want %d and %q", resp.StatusCode, body, code, says)
		}
	}
	expect(503, "does not listen")
	ln := w.Listener(inner)
	expect(200, "ready")
	w.stop()
	expect(503, "it stops")
	ln.Close()
	expect(503, "it stops")
	if resp, body := w.get(t, "/healthz"); resp.StatusCode != 200 {
		t.Errorf("while it stops it is no longer alive: %d %q", resp.StatusCode, body)
	}
}

func TestAcceptErrors(t *testing.T) {
	s := newServer(t.Context(), Config{})
	ln := s.Listener(&failing{errs: []error{errors.New("no descriptor"), errors.New("again"), net.ErrClosed}})
	for range 3 {
		if !s.listening.Load() {
			t.Error("a failure counts as the end")
		}
		ln.Accept()
	}
	if n := s.acceptErrors.Load(); n != 2 || s.listening.Load() {
		t.Errorf("%d failures, listening: %v; want 2, and that it does not", n, s.listening.Load())
	}
}

type failing struct {
	net.Listener
	errs []error
}

func (f *failing) Accept() (net.Conn, error) {
	err := f.errs[0]
	f.errs = f.errs[1:]
	return nil, err
}

func TestProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := newFakeDir(t)
		p := &probe{dir: dir}
		expect := func(want error, created int64) {
			t.Helper()
			if d := p.ask(t.Context(), time.Second, 2*time.Second); !errors.Is(d.err, want) || dir.created.Load() != created {
				t.Errorf("%v after %d files; want %v after %d", d.err, dir.created.Load(), want, created)
			}
		}
		expect(nil, 1)
		dir.err = os.ErrPermission
		expect(nil, 1) // that is known for a second
		time.Sleep(time.Second)
		expect(os.ErrPermission, 2)
		dir.hang = make(chan struct{})
		time.Sleep(time.Second)
		begun := time.Now()
		expect(errNoAnswer, 3)
		expect(errNoAnswer, 3) // one looks at a time
		if took := time.Since(begun); took != 4*time.Second {
			t.Errorf("two have waited for %v", took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if d := p.ask(ctx, time.Second, time.Hour); !errors.Is(d.err, errNoAnswer) || time.Since(begun) != 4*time.Second {
			t.Errorf("who is gone gets %v after %v", d.err, time.Since(begun))
		}
		dir.err = nil
		close(dir.hang)
		p.looking.Wait()
		dir.hang = nil
		expect(nil, 3)
	})
}

func TestProbeLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	store, err := fs.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	p := &probe{dir: store}
	if d := p.ask(t.Context(), 0, time.Minute); d.err != nil {
		t.Fatal(d.err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v is left (%v)", left, err)
	}
	// The server's sweep removes what a probe leaves that is killed.
	if !stage.IsNumberedFile(probeName) {
		t.Errorf("%q is not swept", probeName)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if d := p.ask(t.Context(), 0, time.Minute); d.err == nil {
		t.Error("in a directory that is gone files can be saved")
	}
}

func TestGuard(t *testing.T) {
	w := start(t, Config{}, false)
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	host := func(h string) func(*http.Request) { return func(r *http.Request) { r.Host = h } }
	method := func(m string) func(*http.Request) { return func(r *http.Request) { r.Method = m } }
	for _, tt := range []struct {
		name string
		edit []func(*http.Request)
		code int
	}{
		{"as it comes", nil, 200},
		{"localhost", []func(*http.Request){host("localhost:1")}, 200},
		{"IPv6", []func(*http.Request){host("[::1]:9100")}, 200},
		{"IPv6 without a port", []func(*http.Request){host("[::1]")}, 200},
		{"any loopback address", []func(*http.Request){host("127.1.2.3")}, 200},
		{"rebinding", []func(*http.Request){host("evil.example:9100")}, 421},
		{"a name that begins like it", []func(*http.Request){host("localhost.evil.example")}, 421},
		{"an address like it", []func(*http.Request){host("127.0.0.1.evil.example")}, 421},
		{"another address", []func(*http.Request){host("192.0.2.1:9100")}, 421},
		{"a page from elsewhere", []func(*http.Request){header("Sec-Fetch-Site", "cross-site"), header("Sec-Fetch-Mode", "no-cors")}, 403},
		{"a link from elsewhere", []func(*http.Request){header("Sec-Fetch-Site", "cross-site"), header("Sec-Fetch-Mode", "navigate")}, 200},
		{"the page", []func(*http.Request){header("Sec-Fetch-Site", "same-origin"), header("Sec-Fetch-Mode", "cors")}, 200},
		{"a post", []func(*http.Request){method("POST")}, 405},
		{"a head", []func(*http.Request){method("HEAD")}, 200},
		{"a body", []func(*http.Request){func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(strings.NewReader("x")), 1 }}, 400},
		{"a body of unknown length", []func(*http.Request){func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(strings.NewReader("x")), -1 }}, 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := w.get(t, "/", tt.edit...)
			if resp.StatusCode != tt.code {
				t.Errorf("%d %q; want %d", resp.StatusCode, body, tt.code)
			}
			if csp := resp.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
				t.Errorf("its policy is %q", csp)
			}
			if resp.Header.Get("X-Content-Type-Options") != "nosniff" || resp.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("its headers are %v", resp.Header)
			}
		})
	}
	// Who is not only reached from here has names that nobody knows here.
	w.local = false
	if resp, _ := w.get(t, "/", host("server.example:9100")); resp.StatusCode != 200 {
		t.Errorf("elsewhere a name is refused: %d", resp.StatusCode)
	}
}

func TestWhatIsServed(t *testing.T) {
	for _, tt := range []struct {
		path             string
		follow, profiles bool
		code             int
		kind             string
	}{
		{"/", false, false, 200, "text/html"},
		{"/page.js", false, false, 200, "text/javascript"},
		{"/page.css", false, false, 200, "text/css"},
		{"/icon.svg", false, false, 200, "image/svg+xml"},
		{"/metrics", false, false, 200, "text/plain"},
		{"/api/connections", false, false, 200, "application/json"},
		{"/api/connections?limit=1&before=5", false, false, 200, "application/json"},
		{"/api/connections?limit=0", false, false, 400, "text/plain"},
		{"/api/connections?limit=1001", false, false, 400, "text/plain"},
		{"/api/connections?before=x", false, false, 400, "text/plain"},
		{"/page/page.js", false, false, 404, "text/plain"},
		{"/../admin.go", false, false, 404, "text/plain"},
		{"/follow/1", false, false, 404, "text/plain"},
		{"/follow/1", true, false, 404, "text/plain"},
		{"/follow/x", true, false, 404, "text/plain"},
		{"/debug/pprof/", false, false, 404, "text/plain"},
		{"/debug/pprof/", false, true, 200, "text/html"},
		{"/debug/pprof/goroutine?debug=1", false, true, 200, "text/plain"},
		{"/debug/pprof/cmdline", false, true, 200, "text/plain"},
	} {
		cfg := Config{}
		if tt.follow {
			cfg.Follow = func(uint64) (io.ReadCloser, error) { return nil, os.ErrNotExist }
		}
		w := start(t, cfg, tt.profiles)
		resp, body := w.get(t, tt.path)
		if resp.StatusCode != tt.code || !strings.HasPrefix(resp.Header.Get("Content-Type"), tt.kind) {
			t.Errorf("%s: %d %s %.80q; want %d %s", tt.path, resp.StatusCode, resp.Header.Get("Content-Type"), body, tt.code, tt.kind)
		}
		w.closed()
	}
}

// What is embedded asks for nothing from elsewhere, and never takes text for markup.
func TestPageStandsAlone(t *testing.T) {
	for _, name := range []string{"index.html", "page.js", "page.css", "icon.svg"} {
		text, err := files.ReadFile("page/" + name)
		if err != nil {
			t.Fatal(err)
		}
		clean := strings.ReplaceAll(string(text), "http://www.w3.org/2000/svg", "")
		if found := regexp.MustCompile(`(?i)https?:|//[a-z]|@import|url\(|innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|style=|\son[a-z]+=`).FindAllString(clean, -1); found != nil {
			t.Errorf("%s has %q", name, found)
		}
	}
}

func TestState(t *testing.T) {
	dir := newFakeDir(t)
	w := start(t, Config{
		Program: "server", Version: "v1", Directory: dir, MinFree: 7, Slots: 9, Limits: []Limit{{"max-size", 10, Bytes}},
		Follow: func(uint64) (io.ReadCloser, error) { return nil, os.ErrNotExist },
	}, false)
	for n := range uint64(3) {
		c := arrive(t, w.table, n+1)
		if n > 0 {
			c.HandshakeDone()
		}
		if n == 1 {
			c.bring(100)
		}
	}
	hostile := `<script>alert(1)</script>` + strings.Repeat("é", maxCause)
	arrive(t, w.table, 4).Ended(errors.Join(stage.ErrProtocol, errors.New(hostile)))
	_, body := w.get(t, "/api/connections?limit=2")
	var got State
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if got.InFlight != 3 || !got.More || len(got.Connections) != 2 || *got.SlotsFree != 6 || got.Slots != 9 {
		t.Errorf("%+v", got)
	}
	if c := got.Connections[0]; c.Number != 3 || c.Stage != "transfer" || c.Follow != "" || c.Rate != nil || c.Peer != "pipe" {
		t.Errorf("nothing of it has arrived, and it is %+v", c)
	}
	if c := got.Connections[1]; c.Number != 2 || c.Bytes != 100 || c.Follow != "/follow/2" || c.Age <= 0 || c.AverageRate <= 0 {
		t.Errorf("some of it has arrived, and it is %+v", c)
	}
	if r := got.Recent[0]; r.Outcome != "protocol" || r.OK || !strings.Contains(r.Cause, "<script>") || len(r.Cause) > maxCause+len("…") || strings.Contains(body, "<script>") {
		t.Errorf("it has ended as %+v", r)
	}
	if tot := got.Totals; tot.Connections != 1 || tot.Outcomes["protocol"] != 1 || tot.Bytes != 100 || len(tot.Outcomes) != len(stage.Outcomes()) {
		t.Errorf("totals: %+v", tot)
	}
	if got.Ready || got.Unready == "" || *got.Disk.Free != 1<<30 || got.Disk.MinFree != 7 || got.Limits[0] != w.Limits[0] {
		t.Errorf("%+v", got)
	}
	if _, body := w.get(t, "/api/connections?limit=2&before=2"); !strings.Contains(body, `"more":false`) || !strings.Contains(body, `"number":1,`) {
		t.Errorf("what comes after that is %s", body)
	}
}

// next is the next event of a page.
func next(t *testing.T, r *bufio.Reader) (s State) {
	t.Helper()
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	data, ok := strings.CutPrefix(line, "data: ")
	if empty, _ := r.ReadString('\n'); !ok || empty != "\n" {
		t.Fatalf("the event is %q %q", line, empty)
	}
	if err := json.Unmarshal([]byte(data), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func (w *watched) open(t *testing.T) *http.Response {
	t.Helper()
	resp, err := http.Get(w.url + "/api/events")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func TestEvents(t *testing.T) {
	w := start(t, Config{}, false)
	resp := w.open(t)
	r := bufio.NewReader(resp.Body)
	if s := next(t, r); len(s.Connections) != 0 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("at first there is %+v", s)
	}
	c := arrive(t, w.table, 1)
	c.HandshakeDone()
	c.bring(1000)
	for s := next(t, r); ; s = next(t, r) {
		if len(s.Connections) == 1 && s.Connections[0].Rate != nil {
			if got := s.Connections[0]; got.Bytes != 1000 || *got.Rate != got.History[len(got.History)-1] || *got.Rate <= 0 {
				t.Errorf("it is %+v", got)
			}
			break
		}
	}
	c.Ended(nil)
	for s := next(t, r); len(s.Connections) != 0 || s.Recent[0].Outcome != "received"; s = next(t, r) {
	}
	for range maxWatchers - 1 {
		if resp := w.open(t); resp.StatusCode != 200 {
			t.Errorf("another page: %d", resp.StatusCode)
		}
	}
	if resp := w.open(t); resp.StatusCode != 503 {
		t.Errorf("too many pages: %d", resp.StatusCode)
	}
	// An end while pages are open takes none of their time.
	begun := time.Now()
	w.closed()
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("to end it took %v", took)
	}
	if _, err := io.ReadAll(r); err != nil {
		t.Errorf("the page has not seen an end, but %v", err)
	}
}

// Nothing is looked at while nobody watches.
func TestNobodyWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t.Context(), Config{})
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan struct{})
		go func() { defer close(over); s.watch(ctx) }()
		looked := func(want bool) {
			t.Helper()
			s.sampler.Lock()
			before := s.sampler.last
			s.sampler.Unlock()
			time.Sleep(2 * samplePeriod)
			synctest.Wait()
			s.sampler.Lock()
			defer s.sampler.Unlock()
			if got := s.sampler.last.After(before); got != want {
				t.Errorf("it has looked: %v, want %v", got, want)
			}
		}
		looked(false)
		s.watchers.ask()
		looked(true)
		time.Sleep(interest + samplePeriod)
		looked(false)
		states := s.watchers.enter()
		looked(true)
		time.Sleep(2 * interest) // it does not take what it is told, and others go on
		looked(true)
		s.watchers.leave(states)
		time.Sleep(interest + samplePeriod)
		looked(false)
		cancel()
		<-over
	})
}

func TestFollow(t *testing.T) {
	store, err := fs.New(fs.NewMemory(), "/d")
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	follower := &follow.Store{Store: store}
	w := start(t, Config{Follow: func(number uint64) (io.ReadCloser, error) {
		return follower.Open(stage.NumberedFile(&stage.Conn{Number: number}))
	}}, false)
	follow := func(number string) *http.Response {
		t.Helper()
		resp, err := http.Get(w.url + "/follow/" + number)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	begin := func(name, text string) fs.Pending {
		t.Helper()
		p, err := follower.Create(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(p, text)
		return p
	}
	hostile := "<script>alert(1)</script>"
	good, bad := begin("1.file", hostile), begin("2.file", "x")
	one, two := follow("1"), follow("2")
	h := one.Header
	if one.StatusCode != 200 || h.Get("Content-Type") != "application/octet-stream" || h.Get("X-Content-Type-Options") != "nosniff" ||
		h.Get("Content-Disposition") != `attachment; filename="1.file"` {
		t.Errorf("%d %v", one.StatusCode, h)
	}
	// It is there before there is more.
	got := make([]byte, len(hostile))
	if _, err := io.ReadFull(one.Body, got); err != nil || string(got) != hostile {
		t.Fatalf("%q, %v", got, err)
	}
	io.WriteString(good, "more")
	if err := good.Commit(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(one.Body); string(rest) != "more" || err != nil {
		t.Errorf("the rest is %q, %v", rest, err)
	}
	bad.Abort()
	if part, err := io.ReadAll(two.Body); err == nil {
		t.Errorf("an upload that failed ends well after %q", part)
	}
	if resp := follow("1"); resp.StatusCode != 404 {
		t.Errorf("one that is complete: %d", resp.StatusCode)
	}
	// So many, and no more; and who waits for bytes does not hold up the end.
	last := begin("3.file", "x")
	for range maxFollowers {
		if resp := follow("3"); resp.StatusCode != 200 {
			t.Errorf("%d", resp.StatusCode)
		}
	}
	if resp := follow("3"); resp.StatusCode != 503 {
		t.Errorf("one too many: %d", resp.StatusCode)
	}
	w.closed()
	last.Abort()
}

func TestConnectionsAreBounded(t *testing.T) {
	w := start(t, Config{}, false)
	var conns []net.Conn
	for range maxConns {
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	done := make(chan error, 1)
	go func() {
		resp, err := http.Get(w.url + "/healthz")
		if err == nil {
			resp.Body.Close()
		}
		done <- err
	}()
	conns[0].Close() // makes room
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestMetrics(t *testing.T) {
	dir := newFakeDir(t)
	s := newServer(t.Context(), Config{Program: "server", Version: "v1", Directory: dir, MinFree: 7, Slots: 9})
	c := arrive(t, s.table, 1)
	c.HandshakeDone()
	c.bring(5)
	arrive(t, s.table, 2).Ended(stage.ErrIdle)
	r := newRegistry(s)
	if problems, err := testutil.GatherAndLint(r); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	want := `
# HELP accio_accept_errors_total Failures to accept a connection.
# TYPE accio_accept_errors_total counter
accio_accept_errors_total 0
# HELP accio_connections_in_flight Open connections.
# TYPE accio_connections_in_flight gauge
accio_connections_in_flight 1
# HELP accio_disk_free_bytes Free bytes on the disk of the directory.
# TYPE accio_disk_free_bytes gauge
accio_disk_free_bytes 1.073741824e+09
# HELP accio_ready Whether the server can take an upload, as in /readyz: 1 or 0.
# TYPE accio_ready gauge
accio_ready 0
# HELP accio_received_bytes_total Bytes of payload that were stored or counted, also of connections that failed later.
# TYPE accio_received_bytes_total counter
accio_received_bytes_total 5
# HELP accio_slots_free Free slots; further connections wait in the listen queue.
# TYPE accio_slots_free gauge
accio_slots_free 8
`
	if err := testutil.GatherAndCompare(r, strings.NewReader(want), "accio_accept_errors_total", "accio_connections_in_flight", "accio_disk_free_bytes",
		"accio_ready", "accio_received_bytes_total", "accio_slots_free"); err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(r, "accio_connections_total"); err != nil || n != len(stage.Outcomes()) {
		t.Errorf("%d outcomes are counted (%v), want all %d", n, err, len(stage.Outcomes()))
	}
	// A wrong number is worse than none.
	dir.freeErr = errors.New("?")
	s.probe.at = time.Time{}
	if n, err := testutil.GatherAndCount(r, "accio_disk_free_bytes"); err != nil || n != 0 {
		t.Errorf("what is not known is told %d times (%v)", n, err)
	}
}
