package admin

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// raw connects to w without a client of net/http, and sends text.
func (w *watched) raw(t *testing.T, text string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	return conn
}

const healthz = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"

// probed asks for what whoever watches over the server asks for, each time anew, and fails
// if that takes longer than it may.
func (w *watched) probed(t *testing.T) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * time.Second}
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		resp, err := client.Get(w.url + path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Error(err)
		}
		resp.Body.Close()
	}
}

func TestWhoAsksForNothingKeepsNobodyOut(t *testing.T) {
	for _, tt := range []struct {
		name, sends string
		answers     int
	}{
		{"idle", healthz, 1},
		{"idle for the second time", healthz + healthz, 2},
		{"silent", "", 0},
		{"a part of a request", "GET /healthz HT", 0},
		{"a part of the second request", healthz + "GET /healthz HTTP/1.1\r\nHost: ", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := start(t, Config{}, false)
			// Twice as many as there are places.
			for range 2 * maxConns {
				conn := w.raw(t, tt.sends)
				r := bufio.NewReader(conn)
				for range tt.answers {
					resp, err := http.ReadResponse(r, nil)
					if err != nil || resp.StatusCode != 200 {
						t.Fatal(resp, err)
					}
					io.Copy(io.Discard, resp.Body)
				}
				if tt.answers > 0 {
					w.probed(t)
				}
			}
			w.probed(t)
		})
	}
}

// All that may last at a time does.
func TestWhatLastsLeavesPlacesForOthers(t *testing.T) {
	w := start(t, Config{Follow: func(uint64) (io.ReadCloser, error) {
		r, _ := io.Pipe() // nothing comes
		return r, nil
	}}, true)
	open := func(path string) net.Conn { return w.raw(t, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n") }
	lasting := maxWatchers + maxFollowers + maxProfiles
	if lasting > maxConns-4 {
		t.Fatalf("of %d places %d are for what lasts", maxConns, lasting)
	}
	// said is what comes on conn within a while.
	said := func(conn net.Conn, while time.Duration) (string, error) {
		conn.SetReadDeadline(time.Now().Add(while))
		text, err := io.ReadAll(conn)
		return string(text), err
	}
	var conns []net.Conn
	for path, says := range map[string]string{
		"/api/events": "16 pages are open already", "/follow/1": "8 uploads are followed already", "/debug/pprof/heap?seconds=3600": "2 profiles are taken already",
	} {
		for full := false; !full; {
			conn := open(path)
			conns = append(conns, conn)
			text, _ := said(conn, 50*time.Millisecond)
			full = strings.HasPrefix(text, "HTTP/1.1 503 ") && strings.Contains(text, says)
		}
	}
	for range 2 * maxConns { // and others are idle
		if resp, err := http.ReadResponse(bufio.NewReader(open("/healthz")), nil); err != nil || resp.StatusCode != 200 {
			t.Errorf("%v, %v", resp, err)
		}
	}
	w.probed(t)
	last := 0
	for _, conn := range conns {
		if _, err := said(conn, 10*time.Millisecond); errors.Is(err, os.ErrDeadlineExceeded) {
			last++
		}
	}
	if last != lasting {
		t.Errorf("%d have lasted, want %d", last, lasting)
	}
}

// pipes is a listener of connections in memory.
type pipes struct {
	net.Listener
	come chan net.Conn
}

func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p.come
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (p pipes) Close() error {
	close(p.come)
	return nil
}

func (p pipes) Addr() net.Addr { return &net.UnixAddr{Net: "unix", Name: "pipes"} }

// Those who are silent are many, and come again as soon as they have been turned out.
func TestHowLongManyWhoAskForNothingKeepAProbeWaiting(t *testing.T) {
	const many = 200
	for _, tt := range []struct{ name, sends string }{
		{"silent", ""},
		{"a part of a request", "GET /healthz HT"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := pipes{come: make(chan net.Conn, 2*many)}
				s := newServer(t.Context(), Config{OnError: func(err error) { t.Error(err) }})
				stop := make(chan struct{})
				connect := func() net.Conn {
					far, near := net.Pipe()
					ln.come <- near
					return far
				}
				for range many {
					conn := connect()
					go func() {
						for {
							io.WriteString(conn, tt.sends)
							conn.Read(make([]byte, 1)) // until it is turned out
							conn.Close()
							select {
							case <-stop:
								return
							default:
								conn = connect()
							}
						}
					}()
				}
				s.serve(ln, false)
				time.Sleep(10 * time.Second)
				for range 3 {
					begun := time.Now()
					conn := connect()
					io.WriteString(conn, healthz)
					if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || resp.StatusCode != 200 {
						t.Errorf("%v, %v", resp, err)
					}
					conn.Close()
					if took, most := time.Since(begun), 400*time.Millisecond; took > most {
						t.Errorf("it took %v, want %v at the most", took, most)
					}
					time.Sleep(777 * time.Millisecond)
				}
				close(stop)
				synctest.Wait()
				for range len(ln.come) { // who still waits
					(<-ln.come).Close()
				}
				s.Close()
			})
		})
	}
}

func TestPlaces(t *testing.T) {
	const (
		n       = 3
		unheard = standing(-1) // the server does not listen yet
	)
	for _, tt := range []struct {
		name string
		are  [n]standing // since 0, 1 and 2 milliseconds ago
		gone int         // -1: none, for good
		wait time.Duration
	}{
		{"the one that is idle", [n]standing{fresh, answering, idle}, 2, 0},
		{"the one that has been idle for the longest", [n]standing{idle, idle, idle}, 2, 0},
		{"one that has just come", [n]standing{fresh, fresh, fresh}, 2, firstRequest - 2*time.Millisecond},
		{"rather than one that is answered", [n]standing{answering, fresh, answering}, 1, firstRequest - time.Millisecond},
		{"or one that cannot have been heard yet", [n]standing{fresh, unheard, unheard}, 0, firstRequest},
		{"one that nobody ever listens to", [n]standing{unheard, unheard, unheard}, 2, longAnswer - 2*time.Millisecond},
		{"an answer that nobody takes", [n]standing{streaming, answering, streaming}, 1, longAnswer - time.Millisecond},
		{"no stream", [n]standing{streaming, streaming, streaming}, -1, time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlaces(pipes{come: make(chan net.Conn, n+2)}, n)
				var far, near [n + 2]net.Conn
				for i := range far {
					var conn net.Conn
					far[i], conn = net.Pipe()
					p.Listener.(pipes).come <- conn
					defer far[i].Close()
				}
				for i := n - 1; i >= 0; i-- {
					conn, err := p.Accept()
					if err != nil {
						t.Fatal(err)
					}
					near[i] = conn
					switch tt.are[i] {
					case unheard:
					case fresh:
						go conn.Read(make([]byte, 1))
						synctest.Wait()
					default:
						p.change(conn.(*place), tt.are[i])
					}
					if i > 0 {
						time.Sleep(time.Millisecond)
					}
				}
				begun := time.Now()
				accepted := make(chan error, 1)
				go func() {
					_, err := p.Accept()
					accepted <- err
				}()
				if tt.gone < 0 {
					select {
					case err := <-accepted:
						t.Errorf("one more: %v", err)
					case <-time.After(tt.wait):
					}
					near[0].Close() // makes room
				}
				if err := <-accepted; err != nil {
					t.Error(err)
				}
				if took := time.Since(begun); took != tt.wait {
					t.Errorf("it took %v, want %v", took, tt.wait)
				}
				for i, conn := range near[:n] {
					p.mu.Lock()
					_, has := p.taken[conn.(*place)]
					p.mu.Unlock()
					if gone := i == max(tt.gone, 0); has == gone {
						t.Errorf("connection %d has its place: %v", i, has)
					}
				}
				// Who waits for a place is let go at the end.
				for c := range p.taken {
					p.change(c, streaming)
				}
				go func() {
					_, err := p.Accept()
					accepted <- err
				}()
				synctest.Wait()
				p.Close()
				if err := <-accepted; err != net.ErrClosed {
					t.Error(err)
				}
				if _, err := far[n+1].Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("who has waited for a place reads %v", err)
				}
			})
		})
	}
}

func TestNobodyHasToGoAsLongAsNobodyComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 2
		p := newPlaces(pipes{come: make(chan net.Conn, n)}, n)
		for range n {
			far, near := net.Pipe()
			defer far.Close()
			p.Listener.(pipes).come <- near
			conn, err := p.Accept()
			if err != nil {
				t.Fatal(err)
			}
			p.change(conn.(*place), idle)
		}
		accepted := make(chan error, 1)
		go func() {
			_, err := p.Accept()
			accepted <- err
		}()
		time.Sleep(time.Minute)
		p.mu.Lock()
		if got := len(p.taken); got != n {
			t.Errorf("%d have a place, want %d", got, n)
		}
		p.mu.Unlock()
		p.Close()
		if err := <-accepted; err != net.ErrClosed {
			t.Error(err)
		}
	})
}

func TestAnAnswerThatNobodyTakesMakesRoom(t *testing.T) {
	w := start(t, Config{}, false)
	for i := range 1000 {
		arrive(t, w.table, uint64(i+1))
	}
	for range maxConns {
		// More answers than the buffers of the system hold.
		w.raw(t, strings.Repeat("GET /api/connections?limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n", 500))
	}
	begun := time.Now()
	resp, err := http.Get(w.url + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if took := time.Since(begun); took > 4*longAnswer {
		t.Errorf("it took %v", took)
	}
}
