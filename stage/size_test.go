package stage

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"testing"
)

func TestMaxSize(t *testing.T) {
	tests := []struct {
		name  string
		limit int64
		peer  []act
		got   string
		err   error
	}{
		{"nothing", 5, []act{ends}, "", nil},
		{"less", 5, []act{says("1234"), ends}, "1234", nil},
		{"exactly as much", 5, []act{says("12345"), ends}, "12345", nil},
		{"exactly as much, in pieces", 5, []act{says("123"), says("45"), ends}, "12345", nil},
		{"one more", 5, []act{says("123456"), ends}, "12345", ErrTooLarge},
		{"one more, later", 5, []act{says("12345"), says("6"), ends}, "12345", ErrTooLarge},
		{"far more", 5, []act{says("123456789 123456789")}, "12345", ErrTooLarge},
		{"more, and no end", 5, []act{says("12"), says("3456")}, "12345", ErrTooLarge},
		{"one byte at the most", 1, []act{says("12")}, "1", ErrTooLarge},
		{"no limit", 0, []act{says("123456"), ends}, "123456", nil},
		{"less than no limit", -1, []act{says("123456"), ends}, "123456", nil},
		{"the largest limit", math.MaxInt64, []act{says("123456"), ends}, "123456", nil},
	}
	for handler, h := range receivers {
		for _, tt := range tests {
			t.Run(tt.name+", with "+handler, func(t *testing.T) {
				server, client := net.Pipe()
				var got bytes.Buffer
				done := play(client, tt.peer...)
				err := Serve(t.Context(), server, 1, Chain{into(&got), MaxSize{Bytes: tt.limit}}.Then(h))
				if !errors.Is(err, tt.err) {
					t.Errorf("ended with %v, want %v", err, tt.err)
				}
				if got.String() != tt.got {
					t.Errorf("stored %q, want %q", got.String(), tt.got)
				}
				<-done
			})
		}
	}
}

// What is too large is not stored, and each connection has a limit of its own.
func TestMaxSizeAndSave(t *testing.T) {
	store := newMapStore()
	save, hash, limit := Save{Store: store, Name: NumberedFile, Mark: ErrorMark}, Hash{New: sha256.New}, MaxSize{Bytes: 5}
	for order, chain := range map[string]Chain{
		"inside of Save and Count":              {save, Count{}, limit},
		"between them":                          {save, limit, Count{}},
		"outside of Save":                       {limit, save},
		"outside of all":                        {limit, Count{}, hash, save},
		"outside of Save, inside of the others": {Count{}, hash, limit, save},
	} {
		t.Run(order, func(t *testing.T) {
			clear(store.files)
			h := chain.Then(Receive)
			for i, payload := range []string{"12345", "123456", "12345"} {
				server, client := net.Pipe()
				done := play(client, says(payload), ends)
				want := error(nil)
				if len(payload) > 5 {
					want = ErrTooLarge
				}
				if err := Serve(t.Context(), server, uint64(i+1), h); !errors.Is(err, want) {
					t.Errorf("connection %d ended with %v, want %v", i+1, err, want)
				}
				<-done
			}
			for name, want := range map[string]string{"1.file": "12345", "2.file": ErrorMark, "3.file": "12345"} {
				if got := store.files[name]; got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
		})
	}
}

// gatesCostNoAllocation checks gates before a reader and before a writer.
func gatesCostNoAllocation(t *testing.T, gates map[string]Gate) {
	t.Helper()
	for name, g := range gates {
		t.Run(name, func(t *testing.T) {
			r, w := NewReader(endless{}, g), NewWriter(io.Discard, g)
			buf := make([]byte, 1)
			if n := testing.AllocsPerRun(1000, func() {
				if n, err := r.Read(buf); n != 1 || err != nil {
					t.Fatal(n, err)
				}
				if n, err := w.Write(buf); n != 1 || err != nil {
					t.Fatal(n, err)
				}
			}); n != 0 {
				t.Errorf("%v allocations for a read and a write", n)
			}
		})
	}
}

func TestLimitAllocations(t *testing.T) {
	server, client := net.Pipe()
	defer server.Close()
	defer client.Close()
	c := NewConn(server, 1)
	gatesCostNoAllocation(t, map[string]Gate{
		"Idle":    newIdleGate(c, patience),
		"MaxSize": &sizeGate{left: math.MaxInt64},
		"MinRate": &rateGate{socket: c.socket, limit: MinRate{1, patience}, need: 10},
		"MinFree": &spaceGate{space: &space{MinFree: MinFree{1, func() (int64, error) { return math.MaxInt64, nil }}}},
	})
}

func TestErrLimit(t *testing.T) {
	for _, err := range []error{ErrTooLarge, ErrTooLong, ErrTooSlow, ErrSlowHandshake, ErrTooMany, ErrNoSpace} {
		if !errors.Is(err, ErrLimit) || !errors.Is(fmt.Errorf("x: %w", err), ErrLimit) {
			t.Errorf("%v is no ErrLimit", err)
		}
		if errors.Is(ErrLimit, err) {
			t.Errorf("any limit is %v", err)
		}
	}
	for _, err := range []error{ErrIdle, ErrProtocol, ErrStorage, ErrShutdown} {
		if errors.Is(err, ErrLimit) {
			t.Errorf("%v is an ErrLimit", err)
		}
	}
}
