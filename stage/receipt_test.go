package stage

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// told is a receipt with all that there is to tell.
func told(c *Conn) string { return fmt.Sprintf("%d %x\n", c.Counter.Count(), c.Hash.Sum(nil)) }

func TestReceipt(t *testing.T) {
	word := func(payload string) string { return fmt.Sprintf("%d %s\n", len(payload), digest(payload)) }
	tests := []struct {
		name  string
		mark  string
		peer  []act
		fault map[string]error
		heard string // and then the end; nothing, and a reset, if it failed
		err   error
	}{
		{"a payload", "", []act{says("hello, "), says("world"), ends}, nil, word("hello, world"), nil},
		{"a payload of no bytes", "", []act{ends}, nil, word(""), nil},
		{"a payload that cannot be stored", "", []act{says("hello"), ends}, map[string]error{"commit": errOne}, "", ErrStorage},
		{"a payload that cannot be stored, and its mark", ErrorMark, []act{says("hello"), ends}, map[string]error{"commit 1": errOne}, "", ErrStorage},
		{"a payload that is too large", "", []act{says("hello, world, and everything"), ends}, nil, "", ErrTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			store := newMapStore()
			store.fault = faults(tt.fault)
			server, client := wire()
			h := Chain{
				Receipt{Format: told},
				Hash{New: sha256.New},
				Save{Store: store, Name: NumberedFile, Mark: tt.mark},
				MaxSize{Bytes: 20},
			}.Then(Receive)
			if err := <-play(client, tt.peer...); err != nil {
				t.Fatal(err)
			}
			if err := Serve(t.Context(), server, 1, h); !errors.Is(err, tt.err) {
				t.Errorf("ended with %v, want %v", err, tt.err)
			}
			got, err := io.ReadAll(client)
			if string(got) != tt.heard || (err == nil) != (tt.err == nil) {
				t.Errorf("the peer heard %q and saw %v, want %q", got, err, tt.heard)
			}
		})
	}
}

func TestReceiptAfterTheCommit(t *testing.T) {
	store := newMapStore()
	server, client := wire()
	h := Chain{
		Receipt{Format: func(*Conn) string {
			if got := store.files["1.file"]; got != "hello" {
				t.Errorf("when it was made the store had %q", got)
			}
			return "stored"
		}},
		Save{Store: store, Name: NumberedFile},
	}.Then(Receive)
	<-play(client, says("hello"), ends)
	if err := Serve(t.Context(), server, 1, h); err != nil {
		t.Error(err)
	}
	if got, err := io.ReadAll(client); string(got) != "stored" || err != nil {
		t.Errorf("the peer heard %q and saw %v", got, err)
	}
}

// The peer is not there, does not listen, or is not waited for any longer.
func TestReceiptCannotBeSent(t *testing.T) {
	for _, tt := range []struct {
		name  string
		limit time.Duration
		do    func(stop context.CancelFunc, client net.Conn)
		err   error
		after time.Duration
	}{
		{"a peer that does not read", 5 * time.Second, nil, ErrIdle, 5 * time.Second},
		{"a peer that does not read, without a limit", 0, nil, ErrIdle, 10 * time.Second},
		{"a peer that does not read, with less than a limit", -1, nil, ErrIdle, 10 * time.Second},
		{"a peer that reads a part of it", 0, func(_ context.CancelFunc, client net.Conn) { io.ReadFull(client, make([]byte, 3)) }, ErrIdle, 10 * time.Second},
		{"a peer that reads at the last moment", 0, func(_ context.CancelFunc, client net.Conn) {
			time.Sleep(10*time.Second - 1)
			io.Copy(io.Discard, client)
		}, nil, 10*time.Second - 1},
		{"a peer that is gone", 0, func(_ context.CancelFunc, client net.Conn) { client.Close() }, ErrReset, 0},
		{"a stop", 0, func(stop context.CancelFunc, _ net.Conn) {
			time.Sleep(time.Second)
			stop()
		}, ErrShutdown, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, client := net.Pipe()
				defer client.Close()
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				store := newMapStore()
				begun := time.Now()
				if tt.do != nil {
					go tt.do(stop, client)
				}
				err := Serve(ctx, server, 1, Chain{
					Receipt{Format: func(*Conn) string { return "stored" }, Limit: tt.limit},
					Save{Store: store, Name: NumberedFile, Mark: ErrorMark},
				}.Then(sends(nil, "hello")))
				if took := time.Since(begun); !errors.Is(err, tt.err) || took != tt.after {
					t.Errorf("ended after %v with %v, want %v, %v", took, err, tt.after, tt.err)
				}
				if got := store.files["1.file"]; got != "hello" {
					t.Errorf("stored %q", got)
				}
			})
		})
	}
}

func TestReceiptOfNothing(t *testing.T) {
	server, client := net.Pipe() // on which a write of nothing would wait
	defer client.Close()
	if err := Serve(t.Context(), server, 1, Receipt{Format: func(*Conn) string { return "" }, Limit: time.Hour}.Wrap(stops(nil))); err != nil {
		t.Error(err)
	}
}

func TestReceiptWithoutFormat(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("it was accepted")
		}
	}()
	Receipt{}.Wrap(Receive)
}
