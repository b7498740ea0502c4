package stage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"testing"
)

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func TestHash(t *testing.T) {
	tests := []struct {
		name string
		h    Handler
		sink io.Writer
		want string // the bytes that are hashed
	}{
		{"nothing", receives(nil), &sink{}, ""},
		{"what was copied", receives(nil, "hello, ", "world"), &sink{}, "hello, world"},
		{"what was written", sends(nil, "hello, ", "world"), &sink{}, "hello, world"},
		{"what was copied to nowhere", receives(nil, "hello"), io.Discard, "hello"},
		{"what had arrived when the connection failed", receives(errOne, "hello"), &sink{}, "hello"},
		{"what the sink has taken, not what was sent", receives(nil, "hello, ", "world"), &sink{outcomes: []outcome{{7, nil}, {2, errOne}}}, "hello, wo"},
		{"what the sink has taken of a write", sends(nil, "hello"), &sink{outcomes: []outcome{{2, errOne}}}, "he"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &Conn{Out: io.Discard}
			Chain{into(tt.sink), Hash{New: sha256.New}}.Then(tt.h).Serve(t.Context(), c)
			if got := hex.EncodeToString(c.Hash.Sum(nil)); got != digest(tt.want) {
				t.Errorf("the digest is %s, want that of %q", got, tt.want)
			}
		})
	}
}

// What is hashed is what has reached the store, wherever the stage stands.
func TestHashOrder(t *testing.T) {
	const payload = "hello, world"
	for _, tt := range []struct {
		name  string
		chain func(save, hash Stage) Chain
		err   error
		want  string
	}{
		{"inside of Save", func(s, h Stage) Chain { return Chain{s, h} }, nil, payload},
		{"outside of Save", func(s, h Stage) Chain { return Chain{h, s} }, nil, payload},
		{"outside of Save, with a Count outside", func(s, h Stage) Chain { return Chain{Count{}, h, s} }, nil, payload},
		{"outside of Save, with a Count in between", func(s, h Stage) Chain { return Chain{h, Count{}, s} }, nil, payload},
		{"outside of Save, with a Count inside", func(s, h Stage) Chain { return Chain{h, s, Count{}} }, nil, payload},
		{"inside of Save, with a Count outside", func(s, h Stage) Chain { return Chain{Count{}, s, h} }, nil, payload},
		{"outside of a limit", func(s, h Stage) Chain { return Chain{s, h, MaxSize{Bytes: 5}} }, ErrTooLarge, payload[:5]},
		{"inside of a limit", func(s, h Stage) Chain { return Chain{s, MaxSize{Bytes: 5}, h} }, ErrTooLarge, payload[:5]},
		{"outside of Save and a limit", func(s, h Stage) Chain { return Chain{h, s, MaxSize{Bytes: 5}} }, ErrTooLarge, payload[:5]},
	} {
		for _, mark := range []string{"", ErrorMark} {
			t.Run(tt.name+", with mark "+mark, func(t *testing.T) {
				store := newMapStore()
				save := Save{Store: store, Name: NumberedFile, Mark: mark}
				chain := append(tt.chain(save, Hash{New: sha256.New}), Count{}) // to see that it counts once
				c := &Conn{Number: 1, Out: io.Discard}
				if err := chain.Then(receives(nil, payload)).Serve(t.Context(), c); !errors.Is(err, tt.err) {
					t.Errorf("ended with %v, want %v", err, tt.err)
				}
				if got := hex.EncodeToString(c.Hash.Sum(nil)); got != digest(tt.want) {
					t.Errorf("the digest is %s, want that of %q", got, tt.want)
				}
				if got := c.Counter.Count(); got != int64(len(tt.want)) {
					t.Errorf("counted %d, want %d", got, len(tt.want))
				}
				want := tt.want
				if tt.err != nil {
					want = mark
				}
				if got := store.files["1.file"]; got != want {
					t.Errorf("stored %q, want %q", got, want)
				}
			})
		}
	}
}

func TestHashTwice(t *testing.T) {
	called := false
	h := Chain{Hash{New: sha256.New}, Count{}, Hash{New: sha256.New}}.Then(HandlerFunc(func(context.Context, *Conn) error {
		called = true
		return nil
	}))
	if err := h.Serve(t.Context(), &Conn{Out: io.Discard}); err != errTwoHashes || called {
		t.Errorf("ended with %v, and what is inside was called: %t", err, called)
	}
}

func TestHashOfEachConnection(t *testing.T) {
	h := Hash{New: sha256.New}.Wrap(receives(nil, "hello"))
	for range 2 {
		c := &Conn{Out: io.Discard}
		if err := h.Serve(t.Context(), c); err != nil {
			t.Error(err)
		}
		if got := hex.EncodeToString(c.Hash.Sum(nil)); got != digest("hello") {
			t.Errorf("the digest is %s", got)
		}
	}
}

func TestHashWithoutNew(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("it was accepted")
		}
	}()
	Hash{}.Wrap(Receive)
}

func TestHashAllocations(t *testing.T) {
	w, buf := &hashWriter{io.Discard, sha256.New()}, make([]byte, 1000)
	if n := testing.AllocsPerRun(1000, func() { w.Write(buf) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkHash(b *testing.B) {
	for name, w := range map[string]io.Writer{
		"bare":               ready{},
		"hashed":             &hashWriter{ready{}, sha256.New()},
		"hashed and counted": NewWriter(&hashWriter{ready{}, sha256.New()}, new(Counter)),
	} {
		b.Run(name, func(b *testing.B) {
			buf := make([]byte, bufferSize)
			b.ReportAllocs()
			b.SetBytes(int64(len(buf)))
			for b.Loop() {
				w.Write(buf)
			}
		})
	}
}
