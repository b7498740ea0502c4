package stage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
)

func TestCount(t *testing.T) {
	tests := []struct {
		name string
		h    Handler
		sink io.Writer
		want int64
	}{
		{"nothing", receives(nil), &sink{}, 0},
		{"what was copied", receives(nil, "hello, ", "world"), &sink{}, 12},
		{"what was written", sends(nil, "hello, ", "world"), &sink{}, 12},
		{"what was copied to nowhere", receives(nil, "hello"), io.Discard, 5},
		{"what had arrived when the connection failed", receives(errOne, "hello"), &sink{}, 5},
		{"what the sink has taken, not what was sent", receives(nil, "hello, ", "world"), &sink{outcomes: []outcome{{7, nil}, {2, errOne}}}, 9},
		{"what the sink has taken of a write", sends(nil, "hello"), &sink{outcomes: []outcome{{2, errOne}}}, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &Conn{Out: io.Discard}
			Chain{into(tt.sink), Count{}}.Then(tt.h).Serve(t.Context(), c)
			if got := c.Counter.Count(); got != tt.want {
				t.Errorf("counted %d, want %d", got, tt.want)
			}
		})
	}
}

func TestCountReturnsAnErrorAsItIs(t *testing.T) {
	if err := (Count{}).Wrap(stops(errOne)).Serve(t.Context(), &Conn{Out: io.Discard}); err != errOne {
		t.Errorf("%v, want this very one: %v", err, errOne)
	}
}

func TestTwoCountsCountOnce(t *testing.T) {
	c := &Conn{Out: io.Discard}
	Chain{Count{}, Count{}, Report{W: io.Discard}}.Then(receives(nil, "hello")).Serve(t.Context(), c)
	if got := c.Counter.Count(); got != 5 {
		t.Errorf("counted %d, want 5", got)
	}
}

func TestCountIsKnownWhileBytesFlow(t *testing.T) {
	c := &Conn{Out: io.Discard}
	Count{}.Wrap(HandlerFunc(func(_ context.Context, c *Conn) error {
		for i := range int64(5) {
			if got := c.Counter.Count(); got != i {
				t.Errorf("counted %d after %d bytes", got, i)
			}
			io.WriteString(c.Out, "x")
		}
		return nil
	})).Serve(t.Context(), c)
}

func TestCounterCountsForMany(t *testing.T) {
	var (
		ct Counter
		wg sync.WaitGroup
	)
	for range 8 {
		wg.Go(func() {
			for last := int64(0); last < 8*1000; {
				n := ct.Count()
				if n < last {
					t.Errorf("the count fell from %d to %d", last, n)
				}
				last = n
			}
		})
		wg.Go(func() {
			w := NewWriter(io.Discard, &ct)
			for range 1000 {
				io.WriteString(w, "x")
			}
		})
	}
	wg.Wait()
}

func TestCounterBeforeAReaderAndAWriter(t *testing.T) {
	var in, out Counter
	var dst bytes.Buffer
	n, err := Copy(NewWriter(&dst, &out), NewReader(strings.NewReader("hello"), &in))
	if n != 5 || err != nil || in.Count() != 5 || out.Count() != 5 {
		t.Errorf("copied %d, %v; counted %d and %d", n, err, in.Count(), out.Count())
	}
	if got, err := io.ReadAll(NewReader(strings.NewReader("bye"), &in)); string(got) != "bye" || err != nil || in.Count() != 8 {
		t.Errorf("read %q, %v; counted %d", got, err, in.Count())
	}
}

func TestCounterStandsInNobodysWay(t *testing.T) {
	var ct Counter
	for _, max := range []int{1, 2, transferSize} {
		if n, err := ct.Allow(max); n != max || err != nil {
			t.Errorf("allowed %d of %d, %v", n, max, err)
		}
	}
	for _, err := range []error{nil, io.EOF, errOne} {
		if got := ct.Passed(3, err); !errors.Is(got, err) {
			t.Errorf("%v has become %v", err, got)
		}
	}
	if ct.Count() != 9 {
		t.Errorf("counted %d, want 9", ct.Count())
	}
}
