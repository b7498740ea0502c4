package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// lineWriter keeps each Write, and sees whether two of them overlap.
type lineWriter struct {
	busy    atomic.Bool
	overlap atomic.Bool
	writes  []string
	err     error
}

func (w *lineWriter) Write(p []byte) (int, error) {
	if !w.busy.CompareAndSwap(false, true) {
		w.overlap.Store(true)
		return 0, errors.New("two at a time")
	}
	runtime.Gosched()
	w.writes = append(w.writes, string(p))
	w.busy.Store(false)
	if w.err != nil {
		return 0, w.err
	}
	return len(p), nil
}

func TestReport(t *testing.T) {
	tests := []struct {
		name string
		h    Handler
		werr error
		want string
		is   []error
	}{
		{name: "the number of payload bytes", h: receives(nil, "hello, ", "world"), want: "12\n"},
		{name: "the number of bytes that were written", h: sends(nil, "hello"), want: "5\n"},
		{name: "an empty payload is 0 bytes", h: receives(nil), want: "0\n"},
		{name: "a large payload is its number in decimal, with nothing between the digits",
			h: receives(nil, strings.Repeat("x", 1234567)), want: "1234567\n"},
		{name: "a failed connection, whatever has arrived", h: receives(errOne, "hello"), want: "ERROR\n", is: []error{errOne}},
		{name: "a silent peer", h: stops(ErrIdle), want: "ERROR\n", is: []error{ErrIdle}},
		{name: "a stop", h: stops(ErrShutdown), want: "ERROR\n", is: []error{ErrShutdown}},
		{name: "a writer that fails fails the connection", h: receives(nil, "hello"), werr: errTwo, want: "5\n", is: []error{ErrReport, errTwo}},
		{name: "a writer that fails fails the connection beside what else was wrong",
			h: stops(ErrIdle), werr: errTwo, want: "ERROR\n", is: []error{ErrIdle, ErrReport, errTwo}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := &lineWriter{err: tt.werr}
			err := Report{W: w}.Wrap(tt.h).Serve(t.Context(), &Conn{Out: io.Discard})
			if (err == nil) != (tt.is == nil) {
				t.Errorf("ended with %v", err)
			}
			for _, is := range tt.is {
				if !errors.Is(err, is) {
					t.Errorf("%v: is not %q", err, is)
				}
			}
			if want := []string{tt.want}; !slices.Equal(w.writes, want) {
				t.Errorf("wrote %q, want %q in one Write", w.writes, want)
			}
		})
	}
}

func TestReportReturnsTheError(t *testing.T) {
	if err := (Report{W: io.Discard}).Wrap(stops(errOne)).Serve(t.Context(), &Conn{Out: io.Discard}); err != errOne {
		t.Errorf("%v, want this very one: %v", err, errOne)
	}
}

func TestReportOrder(t *testing.T) {
	save := Save{Store: newMapStore(), Name: NumberedFile}
	for name, chain := range map[string]func(Report) Chain{
		"alone":                    func(r Report) Chain { return Chain{r} },
		"outside a Count":          func(r Report) Chain { return Chain{r, Count{}} },
		"inside a Count":           func(r Report) Chain { return Chain{Count{}, r} },
		"inside the sink's stage":  func(r Report) Chain { return Chain{save, r} },
		"outside the sink's stage": func(r Report) Chain { return Chain{r, save} },
		"outside both":             func(r Report) Chain { return Chain{r, Count{}, save} },
		"between them":             func(r Report) Chain { return Chain{Count{}, r, save} },
	} {
		t.Run(name, func(t *testing.T) {
			var w lineWriter
			c := &Conn{Out: io.Discard}
			if err := chain(Report{W: &w}).Then(receives(nil, "hello")).Serve(t.Context(), c); err != nil {
				t.Error(err)
			}
			if want := []string{"5\n"}; !slices.Equal(w.writes, want) {
				t.Errorf("wrote %q, want %q", w.writes, want)
			}
		})
	}
}

func TestReportAfterPanicOrGoexit(t *testing.T) {
	for what, do := range map[string]func(){"a panic": func() { panic(errOne) }, "the goroutine's end": runtime.Goexit} {
		t.Run(what, func(t *testing.T) {
			var w lineWriter
			h := Report{W: &w}.Wrap(HandlerFunc(func(context.Context, *Conn) error {
				do()
				return nil
			}))
			passed := make(chan any)
			go func() {
				defer func() { passed <- recover() }()
				h.Serve(t.Context(), &Conn{Out: io.Discard})
			}()
			if v := <-passed; what == "a panic" && v != errOne {
				t.Errorf("the panic has become %v", v)
			}
			if want := []string{"ERROR\n"}; !slices.Equal(w.writes, want) {
				t.Errorf("wrote %q, want %q", w.writes, want)
			}
		})
	}
}

func TestReportConcurrency(t *testing.T) {
	const conns = 200
	var (
		w    lineWriter
		wg   sync.WaitGroup
		want []string
	)
	h := Report{W: &w}.Wrap(HandlerFunc(func(_ context.Context, c *Conn) error {
		_, err := io.WriteString(c.Out, strings.Repeat("x", int(c.Number)))
		return err
	}))
	for n := range conns {
		want = append(want, fmt.Sprintln(n))
		wg.Go(func() {
			if err := h.Serve(t.Context(), &Conn{Number: uint64(n), Out: io.Discard}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if w.overlap.Load() {
		t.Error("a Write began before the one before it had ended")
	}
	sort.Strings(want)
	sort.Strings(w.writes)
	if !slices.Equal(w.writes, want) {
		t.Errorf("wrote %q, want %q", w.writes, want)
	}
}

// loggedConn is a connection whose close is noted.
type loggedConn struct {
	net.Conn
	log *[]string
}

func (c loggedConn) Close() error {
	*c.log = append(*c.log, "close")
	return c.Conn.Close()
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestReportBeforeTheClose(t *testing.T) {
	server, client := net.Pipe()
	client.Close()
	var log []string
	w := writerFunc(func(p []byte) (int, error) {
		log = append(log, string(p))
		return len(p), nil
	})
	Serve(t.Context(), loggedConn{server, &log}, 1, Report{W: w}.Wrap(Receive))
	if want := []string{"0\n", "close"}; !slices.Equal(slices.Compact(log), want) {
		t.Errorf("%q, want %q", log, want)
	}
}

// One connection's misfortune is not that of the next.
func TestReportWriterPanics(t *testing.T) {
	var lines []string
	h := Chain{Recover{}, Report{W: writerFunc(func(p []byte) (int, error) {
		if lines = append(lines, string(p)); len(lines) == 1 {
			panic(errOne)
		}
		return len(p), nil
	})}}.Then(receives(nil, "hello"))
	if err := h.Serve(t.Context(), &Conn{Out: io.Discard}); !errors.Is(err, ErrPanic) {
		t.Errorf("ended with %v", err)
	}
	next := make(chan error, 1)
	go func() { next <- h.Serve(t.Context(), &Conn{Out: io.Discard}) }()
	select {
	case err := <-next:
		if err != nil || len(lines) != 2 {
			t.Errorf("the next one ended with %v, and %q was written", err, lines)
		}
	case <-time.After(patience / 10):
		t.Error("the next one waits for ever")
	}
}

func TestReportWithoutWriter(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("it was accepted")
		}
	}()
	Report{}.Wrap(Receive)
}
