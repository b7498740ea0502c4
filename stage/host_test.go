package stage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
)

// from is a connection whose peer has an address.
type from struct {
	net.Conn
	addr net.Addr
}

func (c from) RemoteAddr() net.Addr { return c.addr }

func tcpAddr(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }

// otherAddr is an address of a type that nobody knows.
type otherAddr string

func (otherAddr) Network() string  { return "other" }
func (a otherAddr) String() string { return string(a) }

func TestMaxPerHost(t *testing.T) {
	for _, tt := range []struct {
		name string
		here []net.Addr // connections that are there
		next net.Addr
		err  error
	}{
		{"the first", nil, tcpAddr("192.0.2.1:1"), nil},
		{"one more", []net.Addr{tcpAddr("192.0.2.1:1")}, tcpAddr("192.0.2.1:2"), nil},
		{"one too many", []net.Addr{tcpAddr("192.0.2.1:1"), tcpAddr("192.0.2.1:2")}, tcpAddr("192.0.2.1:3"), ErrTooMany},
		{"another host", []net.Addr{tcpAddr("192.0.2.1:1"), tcpAddr("192.0.2.1:2")}, tcpAddr("192.0.2.2:3"), nil},
		{"the same host in IPv6", []net.Addr{tcpAddr("192.0.2.1:1"), tcpAddr("[::ffff:192.0.2.1]:2")}, tcpAddr("192.0.2.1:3"), ErrTooMany},
		{"the same 64 bits", []net.Addr{tcpAddr("[2001:db8::1]:1"), tcpAddr("[2001:db8::2]:1")}, tcpAddr("[2001:db8::ffff:0:0:1]:1"), ErrTooMany},
		{"other 64 bits", []net.Addr{tcpAddr("[2001:db8::1]:1"), tcpAddr("[2001:db8::2]:1")}, tcpAddr("[2001:db8:0:1::1]:1"), nil},
		{"the same link-local one", []net.Addr{tcpAddr("[fe80::1%a]:1"), tcpAddr("[fe80::1%a]:2")}, tcpAddr("[fe80::1%a]:3"), ErrTooMany},
		{"another link-local one", []net.Addr{tcpAddr("[fe80::1%a]:1"), tcpAddr("[fe80::1%a]:2")}, tcpAddr("[fe80::2%a]:3"), nil},
		{"an address of another type", []net.Addr{tcpAddr("192.0.2.1:1"), otherAddr("192.0.2.1:2")}, otherAddr("192.0.2.1:3"), ErrTooMany},
		{"no IP address", []net.Addr{otherAddr("a pipe"), otherAddr("a pipe")}, otherAddr("a pipe"), nil},
		{"no address", []net.Addr{nil, nil}, nil, nil},
		{"no address in it", []net.Addr{(*net.TCPAddr)(nil), &net.TCPAddr{}}, (*net.TCPAddr)(nil), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inside := make(chan struct{})
			entered := make(chan struct{}, 3)
			h := MaxPerHost{N: 2}.Wrap(HandlerFunc(func(ctx context.Context, c *Conn) error {
				if r, ok := c.In.(*gatedReader); ok { // it is refused
					if _, err := c.Reply.(*gatedWriter).gates.allow(1); !errors.Is(err, ErrTooMany) {
						t.Errorf("a reply ends with %v", err)
					}
					_, err := r.gates.allow(1)
					return err
				}
				entered <- struct{}{}
				<-inside
				return nil
			}))
			var wg sync.WaitGroup
			for _, addr := range tt.here {
				wg.Go(func() {
					if err := h.Serve(t.Context(), NewConn(from{addr: addr}, 1)); err != nil {
						t.Error(err)
					}
				})
				<-entered
			}
			ended := make(chan error, 1)
			wg.Go(func() { ended <- h.Serve(t.Context(), NewConn(from{addr: tt.next}, 1)) })
			if tt.err == nil {
				<-entered
			} else if err := <-ended; !errors.Is(err, tt.err) {
				t.Errorf("ended with %v, want %v", err, tt.err)
			}
			close(inside)
			wg.Wait()
			// There is a place again, however the others ended.
			if err := h.Serve(t.Context(), NewConn(from{addr: tt.next}, 1)); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

func TestMaxPerHostWithoutLimit(t *testing.T) {
	for _, n := range []int{0, -1} {
		if err := (MaxPerHost{N: n}).Wrap(stops(errOne)).Serve(t.Context(), NewConn(from{}, 1)); err != errOne {
			t.Errorf("with %d it ended with %v", n, err)
		}
	}
}

// What is inside is not asked whether it notices.
func TestMaxPerHostWithoutIO(t *testing.T) {
	inside, entered := make(chan struct{}), make(chan struct{})
	first := true
	h := MaxPerHost{N: 1}.Wrap(HandlerFunc(func(context.Context, *Conn) error {
		if first {
			first = false
			close(entered)
			<-inside
		}
		return nil
	}))
	conn := func() *Conn { return NewConn(from{addr: tcpAddr("192.0.2.1:1")}, 1) }
	ended := make(chan error)
	go func() { ended <- h.Serve(t.Context(), conn()) }()
	<-entered
	if err := h.Serve(t.Context(), conn()); !errors.Is(err, ErrTooMany) {
		t.Errorf("ended with %v", err)
	}
	close(inside)
	if err := <-ended; err != nil {
		t.Errorf("the first ended with %v", err)
	}
}

// The mark of a connection that is one too many, and nothing while it is committed
// that is a place for another.
func TestMaxPerHostDuringACommit(t *testing.T) {
	store := newMapStore()
	committing, commit := make(chan struct{}), make(chan struct{})
	store.fault = func(call string, nth int) error {
		if call == "commit" && nth == 1 {
			close(committing)
			<-commit
		}
		return nil
	}
	h := Chain{MaxPerHost{N: 1}, Save{Store: store, Name: NumberedFile, Mark: ErrorMark}}.Then(Receive)
	first, peer := tcpPair(t)
	ended := make(chan error)
	go func() { ended <- Serve(t.Context(), first, 1, h) }()
	if err := <-play(peer, says("payload"), ends); err != nil {
		t.Fatal(err)
	}
	<-committing
	second, other := tcpPair(t)
	if err := Serve(t.Context(), second, 2, h); !errors.Is(err, ErrTooMany) {
		t.Errorf("the second ended with %v", err)
	}
	if err := farewell(other); err == nil {
		t.Error("the second was told that all is well")
	}
	close(commit)
	if err := <-ended; err != nil {
		t.Errorf("the first ended with %v", err)
	}
	if store.files["1.file"] != "payload" || store.files["2.file"] != ErrorMark {
		t.Errorf("stored %q", store.files)
	}
}

func TestMaxPerHostAfterEachEnd(t *testing.T) {
	for name, h := range map[string]Handler{
		"well":          stops(nil),
		"with an error": stops(errOne),
		"with a panic":  HandlerFunc(func(context.Context, *Conn) error { panic(errOne) }),
	} {
		t.Run(name, func(t *testing.T) {
			h := Chain{Recover{}, MaxPerHost{N: 1}}.Then(h)
			for range 3 {
				if err := h.Serve(t.Context(), NewConn(from{addr: tcpAddr("192.0.2.1:1")}, 1)); errors.Is(err, ErrTooMany) {
					t.Error(err)
				}
			}
		})
	}
}

// Nobody is remembered who is gone, and nobody has more than is allowed.
func TestMaxPerHostForgetsHosts(t *testing.T) {
	hosts := &hosts{conns: make(map[netip.Prefix]int)}
	const limit = 3
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		there = map[netip.Prefix]int{}
	)
	for range 20 {
		wg.Go(func() {
			for range 1000 {
				host, _ := hostOf(tcpAddr(fmt.Sprintf("192.0.2.%d:1", rand.IntN(4))))
				if !hosts.enter(host, limit) {
					continue
				}
				mu.Lock()
				if there[host]++; there[host] > limit {
					t.Errorf("%d of %v", there[host], host)
				}
				mu.Unlock()
				runtime.Gosched()
				mu.Lock()
				there[host]--
				mu.Unlock()
				hosts.leave(host)
			}
		})
	}
	wg.Wait()
	if len(hosts.conns) > 0 {
		t.Errorf("left: %v", hosts.conns)
	}
}
