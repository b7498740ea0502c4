package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accio-go/accio/transport/transporttest/memnet"
)

// patience bounds what ends by itself unless there is a fault.
const patience = 10 * time.Second

// tcpPair returns the two ends of a TCP connection.
func tcpPair(t testing.TB) (server, client *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, c := pairOf(t, ln)
	return s.(*net.TCPConn), c.(*net.TCPConn)
}

// pairOf returns the two ends of a connection to ln, which it closes.
func pairOf(t testing.TB, ln net.Listener) (server, client net.Conn) {
	t.Helper()
	defer ln.Close()
	client, err := net.Dial(ln.Addr().Network(), ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	server, err = ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return server, client
}

// wire returns the two ends of a connection in memory that is as TCP is where
// net.Pipe is not. A read returns bytes of one write only.
func wire() (server, client memnet.Conn) { return memnet.Pair() }

// act is one thing that a peer does.
type act = memnet.Step

// says is a peer that sends s in one write, and hears one that waits for s, which has to
// come in one piece.
func says(s string) act  { return memnet.Say(s) }
func hears(s string) act { return memnet.HearAtOnce(s) }

// pauses is a peer that does nothing for d, in a bubble whose time is not real.
func pauses(d time.Duration) act { return memnet.Pause(d) }

// ends is a peer that ends its stream, and still listens if that can be.
func ends(c net.Conn) error { return memnet.HalfClose(c) }

// resets is a peer that breaks the connection off.
func resets(c net.Conn) error { return memnet.Reset(c) }

// play has a peer act, and tells how that went: nil, or the error of the first
// act that failed.
func play(c net.Conn, acts ...act) <-chan error {
	done := make(chan error, 1)
	go func() { done <- memnet.Peer(acts).Play(c) }()
	return done
}

// farewell waits for the other side's close, and returns nil if it is orderly.
func farewell(c net.Conn) error {
	c.SetReadDeadline(time.Now().Add(patience))
	_, err := io.Copy(io.Discard, c)
	return err
}

// stops is a Handler that returns err.
func stops(err error) Handler {
	return HandlerFunc(func(context.Context, *Conn) error { return err })
}

func TestNewConn(t *testing.T) {
	server, client := wire()
	c := NewConn(server, 42)
	if c.Net != server || c.Number != 42 {
		t.Errorf("the connection is %v, number %d", c.Net, c.Number)
	}
	if c.Out != io.Discard || c.Counter != nil {
		t.Errorf("the sink is %v, counted by %v, before a stage has set any", c.Out, c.Counter)
	}
	done := play(client, says("ping"), hears("pong"))
	buf := make([]byte, 8)
	if n, err := c.In.Read(buf); string(buf[:n]) != "ping" || err != nil {
		t.Errorf("In has %q, %v", buf[:n], err)
	}
	if n, err := io.WriteString(c.Reply, "pong"); n != 4 || err != nil {
		t.Errorf("Reply took %d, %v", n, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestConnErrors(t *testing.T) {
	tests := []struct {
		name string
		do   func(t *testing.T, server, client *net.TCPConn) error // on a connection of its own
		is   []error
		not  []error
	}{
		{"the end of the stream stays io.EOF",
			func(t *testing.T, server, client *net.TCPConn) error {
				client.CloseWrite()
				_, err := NewConn(server, 1).In.Read(make([]byte, 1))
				return err
			},
			[]error{io.EOF}, []error{ErrReset}},
		{"a deadline stays a deadline",
			func(t *testing.T, server, client *net.TCPConn) error {
				c := NewConn(server, 1)
				c.NewDeadline(nil).SetReadDeadline(time.Unix(1, 0))
				_, err := c.In.Read(make([]byte, 1))
				return err
			},
			[]error{os.ErrDeadlineExceeded}, []error{ErrReset, ErrIdle, ErrShutdown}},
		{"a reset breaks what comes in",
			func(t *testing.T, server, client *net.TCPConn) error {
				resets(client)
				_, err := NewConn(server, 1).In.Read(make([]byte, 1))
				return err
			},
			[]error{ErrReset}, []error{ErrShutdown, io.EOF}},
		{"a reset breaks what goes out",
			func(t *testing.T, server, client *net.TCPConn) error {
				resets(client)
				c := NewConn(server, 1)
				server.SetWriteDeadline(time.Now().Add(patience))
				for {
					if _, err := c.Reply.Write(make([]byte, 1)); err != nil {
						return err
					}
				}
			},
			[]error{ErrReset}, []error{ErrShutdown}},
		{"a connection that is closed on this side is broken too",
			func(t *testing.T, server, client *net.TCPConn) error {
				server.Close()
				_, err := NewConn(server, 1).In.Read(make([]byte, 1))
				return err
			},
			[]error{ErrReset, net.ErrClosed}, []error{ErrShutdown}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server, client := tcpPair(t)
			err := tt.do(t, server, client)
			for _, is := range tt.is {
				if !errors.Is(err, is) {
					t.Errorf("%v is not: %v", err, is)
				}
			}
			for _, not := range tt.not {
				if errors.Is(err, not) {
					t.Errorf("%v is: %v", err, not)
				}
			}
		})
	}
}

func TestServeClose(t *testing.T) {
	storage := fmt.Errorf("1.file %w: %w", ErrStorage, errOne)
	tests := []struct {
		name    string
		err     error // of the handler
		orderly bool
	}{
		{"a connection that ended well", nil, true},
		{"a silent peer, which has not ended its stream", ErrIdle, true},
		{"a silent peer, as Idle says it", fmt.Errorf("%w: no byte for 10s", ErrIdle), true},
		{"a silent peer whose outcome could not be told", errors.Join(ErrIdle, ErrReport), true},
		{"a silent peer of whom not even that could be stored", errors.Join(ErrIdle, storage), false},
		{"a silent peer of whom that would replace another's", errors.Join(ErrIdle, because(ErrConflict, errOne)), false},
		{"a payload that could not be stored", storage, false},
		{"a payload whose name is taken", ErrConflict, false},
		{"an outcome that could not be told", ErrReport, false},
		{"a peer that does not follow the protocol", ErrProtocol, false},
		{"a connection that broke", ErrReset, false},
		{"a stop", ErrShutdown, false},
		{"a panic that was caught", because(ErrPanic, &PanicError{Value: "stop"}), false},
		{"an error of a handler's own", errOne, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server, client := tcpPair(t)
			client.CloseWrite()
			if err := Serve(t.Context(), server, 1, stops(tt.err)); err != tt.err {
				t.Errorf("Serve returned %v, want this very one: %v", err, tt.err)
			}
			if err := farewell(client); (err == nil) != tt.orderly {
				t.Errorf("the peer saw it end with %v", err)
			}
			if _, err := server.Write(nil); !errors.Is(err, net.ErrClosed) {
				t.Errorf("the connection is still open: %v", err)
			}
		})
	}
}

func TestServeCloseAfterPanicOrGoexit(t *testing.T) {
	tests := map[string]func(){
		"a panic":             func() { panic("stop") },
		"the goroutine's end": runtime.Goexit,
	}
	for name, do := range tests {
		t.Run(name, func(t *testing.T) {
			server, client := tcpPair(t)
			client.CloseWrite()
			passed := make(chan any)
			go func() {
				defer func() { passed <- recover() }()
				Serve(t.Context(), server, 1, HandlerFunc(func(context.Context, *Conn) error {
					do()
					return nil
				}))
			}()
			if v := <-passed; name == "a panic" && v != "stop" {
				t.Errorf("the panic's value has become %v", v)
			}
			if farewell(client) == nil {
				t.Error("the peer saw an orderly close")
			}
		})
	}
}

func TestServeArguments(t *testing.T) {
	server, _ := wire()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	called := false
	Serve(ctx, server, 7, HandlerFunc(func(got context.Context, c *Conn) error {
		called = true
		if got != ctx || c.Net != server || c.Number != 7 {
			t.Errorf("served %v as number %d", c.Net, c.Number)
		}
		return nil
	}))
	if !called {
		t.Error("the handler was not called")
	}
}

func TestCancelEndsReadsAndWrites(t *testing.T) {
	reads := func(_ context.Context, c *Conn) error {
		_, err := io.ReadAll(c.In)
		return err
	}
	writes := func(_ context.Context, c *Conn) error {
		for {
			if _, err := c.Reply.Write(make([]byte, 1<<16)); err != nil {
				return err
			}
		}
	}
	ends := map[string]func(t *testing.T) net.Conn{
		"net.Pipe": func(t *testing.T) net.Conn {
			server, client := net.Pipe()
			t.Cleanup(func() { client.Close() })
			return server
		},
		"TCP": func(t *testing.T) net.Conn { server, _ := tcpPair(t); return server },
	}
	handlers := map[string]HandlerFunc{"a read": reads, "a write": writes, "a copy": Receive.Serve}
	for network, open := range ends {
		for what, h := range handlers {
			t.Run(what+" on "+network, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				entered := make(chan struct{})
				go func() { <-entered; cancel(errOne) }()
				err := Serve(ctx, open(t), 1, HandlerFunc(func(ctx context.Context, c *Conn) error {
					close(entered)
					return h(ctx, c)
				}))
				if !errors.Is(err, ErrShutdown) || !errors.Is(err, errOne) || errors.Is(err, ErrReset) {
					t.Errorf("ended with %v, want ErrShutdown and its cause", err)
				}
			})
			t.Run(what+" on "+network+", before it began", func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				cancel(errOne)
				err := Serve(ctx, open(t), 1, h)
				if !errors.Is(err, ErrShutdown) || !errors.Is(err, errOne) {
					t.Errorf("ended with %v, want ErrShutdown and its cause", err)
				}
			})
		}
	}
}

func TestCancelResets(t *testing.T) {
	server, client := tcpPair(t)
	ctx, cancel := context.WithCancel(t.Context())
	says("half of it")(client)
	sink := testGate{passed: func(n int, err error) error { cancel(); return err }}
	err := Serve(ctx, server, 1, Chain{into(NewWriter(io.Discard, sink))}.Then(Receive))
	if !errors.Is(err, ErrShutdown) {
		t.Error(err)
	}
	if farewell(client) == nil {
		t.Error("the peer saw an orderly close")
	}
}

// What a handler does besides I/O on the connection is its own: a commit that
// is under way when the stop comes is finished, and the peer hears of it.
func TestCancelDuringCommit(t *testing.T) {
	server, client := tcpPair(t)
	client.CloseWrite()
	ctx, cancel := context.WithCancel(t.Context())
	err := Serve(ctx, server, 1, HandlerFunc(func(ctx context.Context, c *Conn) error {
		if err := Receive.Serve(ctx, c); err != nil {
			t.Errorf("the payload did not arrive: %v", err)
		}
		cancel()
		awaitStop(t, c)
		return nil // committed
	}))
	if err != nil {
		t.Error(err)
	}
	if err := farewell(client); err != nil {
		t.Errorf("the peer was told of failure: %v", err)
	}
}

// awaitStop returns when I/O on c has been interrupted.
func awaitStop(t *testing.T, c *Conn) {
	for start := time.Now(); c.socket.Interrupted() == nil; runtime.Gosched() {
		if time.Since(start) > patience {
			t.Error("I/O is not interrupted")
			return
		}
	}
}

func TestCancelBeatsDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := net.Pipe()
		defer client.Close()
		ctx, cancel := context.WithCancel(t.Context())
		Serve(ctx, server, 1, HandlerFunc(func(_ context.Context, c *Conn) error {
			before := c.NewDeadline(nil)
			before.SetReadDeadline(time.Now().Add(time.Minute))
			cancel()
			synctest.Wait()
			for _, d := range []Deadline{before, c.NewDeadline(nil)} {
				for _, at := range []time.Time{{}, time.Now().Add(time.Hour), {}} {
					d.SetReadDeadline(at)
					start := time.Now()
					if _, err := c.In.Read(make([]byte, 1)); !errors.Is(err, ErrShutdown) || time.Since(start) != 0 {
						t.Errorf("a read ended with %v after %v", err, time.Since(start))
					}
				}
			}
			return nil
		}))
	})
}

// untouchable is a connection that is not to be touched any longer.
type untouchable struct {
	net.Conn
	left, touched bool
}

func (c *untouchable) SetDeadline(t time.Time) error {
	c.touched = c.touched || c.left
	return c.Conn.SetDeadline(t)
}

// A server's context outlives its connections, and must not keep them.
func TestCancelAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, _ := wire()
		conn := &untouchable{Conn: server}
		ctx, cancel := context.WithCancel(t.Context())
		Serve(ctx, conn, 1, stops(nil))
		conn.left = true
		cancel()
		synctest.Wait()
		if conn.touched {
			t.Error("it was kept until the end")
		}
	})
}

// lingering is a connection that knows what its close will say.
type lingering struct {
	memnet.Conn
	abrupt bool
}

func (c *lingering) SetLinger(sec int) error {
	c.abrupt = sec == 0
	return c.Conn.SetLinger(sec)
}

// What kills the process does not ask what the close is to say.
func TestServeCloseWhenTheProcessDies(t *testing.T) {
	conn, client := wire()
	server := &lingering{Conn: conn}
	Serve(t.Context(), server, 1, HandlerFunc(func(context.Context, *Conn) error {
		if !server.abrupt {
			t.Error("an end of the process would be an orderly close")
		}
		return nil
	}))
	if err := farewell(client); err != nil {
		t.Errorf("the peer saw it end with %v", err)
	}
}

// layer is a connection over another, which has a last word to say.
type layer struct {
	net.Conn
	log *[]string
}

func (l layer) NetConn() net.Conn { return l.Conn }

func (l layer) Close() error {
	if _, err := io.WriteString(l.Conn, "goodbye"); err == nil {
		*l.log = append(*l.log, "goodbye")
	}
	return l.Conn.Close()
}

// What a layer says at its close would make a reset look like an orderly end.
func TestServeCloseOfLayers(t *testing.T) {
	for _, layers := range []int{1, 3} {
		for _, err := range []error{nil, errOne} {
			t.Run(fmt.Sprint(layers, " layers, and ", err), func(t *testing.T) {
				server, client := wire()
				var log []string
				conn := net.Conn(server)
				for range layers {
					conn = layer{conn, &log}
				}
				Serve(t.Context(), conn, 1, stops(err))
				if end := farewell(client); (end == nil) != (err == nil) {
					t.Errorf("the peer saw it end with %v", end)
				}
				if said := len(log) > 0; said != (err == nil) {
					t.Errorf("the layers said %q", log)
				}
			})
		}
	}
}

// relayer is a stage that puts a layer over the connection.
func relayer(log *[]string) Stage {
	return Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
		c.Net = layer{c.Net, log}
		return nil, nil
	})
}

// A layer that a stage has put there has the last word, but not where that would look
// like an orderly end.
func TestServeCloseOfLayersOfStages(t *testing.T) {
	for _, layers := range []int{1, 3} {
		for _, err := range []error{nil, ErrIdle, errOne} {
			t.Run(fmt.Sprint(layers, " layers, and ", err), func(t *testing.T) {
				server, client := wire()
				var log []string
				var chain Chain
				for range layers {
					chain = append(chain, relayer(&log))
				}
				if got := Serve(t.Context(), server, 1, chain.Then(stops(err))); got != err {
					t.Errorf("ended with %v, want %v", got, err)
				}
				orderly := err != errOne
				if end := farewell(client); (end == nil) != orderly {
					t.Errorf("the peer saw it end with %v", end)
				}
				if said := len(log) > 0; said != orderly {
					t.Errorf("the layers said %q", log)
				}
			})
		}
	}
}

// What is stopped while it finishes and finishes well is to look so to the peer.
func TestServeCloseOfLayerAfterCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := wire()
		ctx, cancel := context.WithCancel(t.Context())
		speaks := Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
			c.Net = lastWord{c.Net, c}
			return nil, nil
		})
		err := Serve(ctx, server, 1, Chain{speaks}.Then(HandlerFunc(func(context.Context, *Conn) error {
			cancel()
			synctest.Wait() // for all I/O to be interrupted
			return nil
		})))
		if err != nil {
			t.Errorf("ended with %v", err)
		}
		if said, err := io.ReadAll(client); string(said) != "goodbye" || err != nil {
			t.Errorf("the peer heard %q, %v", said, err)
		}
	})
}

// lastWord is a layer that speaks by what the stages outside have made of the
// connection.
type lastWord struct {
	net.Conn
	c *Conn
}

func (l lastWord) NetConn() net.Conn { return l.Conn }

func (l lastWord) Close() error {
	l.c.NewDeadline(nil).SetWriteDeadline(time.Now().Add(time.Second))
	_, err := io.WriteString(l.c.Reply, "goodbye")
	return errors.Join(err, l.Conn.Close())
}

func TestCancelWhileALayerIsAdded(t *testing.T) {
	for range 100 {
		server, client := wire()
		ctx, cancel := context.WithCancel(t.Context())
		var stopping sync.WaitGroup
		waits := Chain{relayer(new([]string)), Idle{Limit: patience}}.Then(Receive)
		stopping.Go(cancel)
		if err := Serve(ctx, server, 1, waits); !errors.Is(err, ErrShutdown) {
			t.Errorf("ended with %v", err)
		}
		stopping.Wait()
		client.Close()
	}
}

func TestServeCloseWithoutReset(t *testing.T) {
	for _, err := range []error{nil, errOne} {
		server, client := net.Pipe()
		Serve(t.Context(), server, 1, stops(err))
		if got := farewell(client); got != nil {
			t.Errorf("with %v the peer saw it end with %v", err, got)
		}
	}
}
