package stage

import (
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
)

// handlerThatPanics has a name that can be found in a stack.
func handlerThatPanics(v any) Handler {
	return HandlerFunc(func(context.Context, *Conn) error { panic(v) })
}

type oddError struct{ reason string }

func (e *oddError) Error() string { return e.reason }

func TestRecover(t *testing.T) {
	odd := &oddError{"odd"}
	tests := []struct {
		name string
		with any
		is   []error
		says string
	}{
		{"a string", "stop", []error{ErrPanic}, "panic: stop"},
		{"an error", odd, []error{ErrPanic, odd}, "panic: odd"},
		{"an error that wraps another", because(ErrReset, odd), []error{ErrPanic, ErrReset, odd}, "panic: connection broke: odd"},
		{"a number", 42, []error{ErrPanic}, "panic: 42"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Recover{}.Wrap(handlerThatPanics(tt.with)).Serve(t.Context(), &Conn{})
			var p *PanicError
			if !errors.As(err, &p) {
				t.Fatalf("%v is not a PanicError", err)
			}
			if p.Value != tt.with {
				t.Errorf("its value is %v, want %v", p.Value, tt.with)
			}
			for _, is := range tt.is {
				if !errors.Is(err, is) {
					t.Errorf("%v is not: %v", err, is)
				}
			}
			if err.Error() != tt.says {
				t.Errorf("says %q, want %q", err, tt.says)
			}
			if !strings.Contains(string(p.Stack), "handlerThatPanics") {
				t.Errorf("the stack does not lead to where it panicked:\n%s", p.Stack)
			}
		})
	}
	t.Run("an error of a type of its own", func(t *testing.T) {
		err := Recover{}.Wrap(handlerThatPanics(odd)).Serve(t.Context(), &Conn{})
		var got *oddError
		if !errors.As(err, &got) || got != odd {
			t.Errorf("%v cannot be had as what it was", err)
		}
	})
	t.Run("a fault that the runtime finds", func(t *testing.T) {
		err := Recover{}.Wrap(HandlerFunc(func(_ context.Context, c *Conn) error {
			_, err := c.In.Read(nil)
			return err
		})).Serve(t.Context(), &Conn{})
		var fault runtime.Error
		if !errors.Is(err, ErrPanic) || !errors.As(err, &fault) {
			t.Errorf("ended with %v", err)
		}
	})
	t.Run("nil", func(t *testing.T) {
		if err := (Recover{}).Wrap(handlerThatPanics(nil)).Serve(t.Context(), &Conn{}); !errors.Is(err, ErrPanic) {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestPanicErrorIsOneLine(t *testing.T) {
	for _, v := range []any{"first\nsecond\n", errors.Join(errOne, errTwo)} {
		if s := (&PanicError{Value: v}).Error(); strings.ContainsAny(s, "\n\r") {
			t.Errorf("%q is more than one line", s)
		}
	}
}

func TestRecoverPassesOnWhatIsNoPanic(t *testing.T) {
	for _, want := range []error{nil, errOne} {
		if got := (Recover{}).Wrap(stops(want)).Serve(t.Context(), &Conn{}); got != want {
			t.Errorf("%v, want this very one: %v", got, want)
		}
	}
}

func TestRecoverLetsAGoroutineEnd(t *testing.T) {
	ended := make(chan struct{})
	returned := false
	go func() {
		defer close(ended)
		Recover{}.Wrap(HandlerFunc(func(context.Context, *Conn) error {
			runtime.Goexit()
			return nil
		})).Serve(t.Context(), &Conn{})
		returned = true
	}()
	<-ended
	if returned {
		t.Error("the goroutine went on")
	}
}

func TestStagesOutsideSeeAPanicAsAnyFailure(t *testing.T) {
	server, client := tcpPair(t)
	client.CloseWrite()
	store := newMapStore()
	var lines lineWriter
	err := Serve(t.Context(), server, 1, Chain{
		Save{Store: store, Name: NumberedFile, Mark: ErrorMark},
		Report{W: &lines},
		Recover{},
	}.Then(HandlerFunc(func(_ context.Context, c *Conn) error {
		io.WriteString(c.Out, "half of it")
		panic("stop")
	})))
	if !errors.Is(err, ErrPanic) {
		t.Error(err)
	}
	if store.files["1.file"] != ErrorMark || len(lines.writes) != 1 || lines.writes[0] != "ERROR\n" {
		t.Errorf("saved %q, reported %q", store.files, lines.writes)
	}
	if farewell(client) == nil {
		t.Error("the peer saw an orderly close")
	}
}
