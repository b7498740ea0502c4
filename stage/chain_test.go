package stage

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// into is a stage that has w as the sink.
func into(w io.Writer) Stage {
	return StageFunc(func(next Handler) Handler {
		return HandlerFunc(func(ctx context.Context, c *Conn) error {
			c.Out = w
			return next.Serve(ctx, c)
		})
	})
}

func TestChain(t *testing.T) {
	var log []string
	logs := func(name string) Stage {
		return StageFunc(func(next Handler) Handler {
			log = append(log, "wrap "+name)
			return HandlerFunc(func(ctx context.Context, c *Conn) error {
				log = append(log, name+" begins")
				err := next.Serve(ctx, c)
				log = append(log, fmt.Sprint(name, " ends with ", err))
				return err
			})
		})
	}
	last := HandlerFunc(func(context.Context, *Conn) error {
		log = append(log, "handler")
		return errOne
	})
	a, b, c := logs("a"), logs("b"), logs("c")
	three := []string{
		"a begins", "b begins", "c begins", "handler",
		"c ends with one failure", "b ends with one failure", "a ends with one failure",
	}
	tests := []struct {
		name  string
		chain Chain
		want  []string
	}{
		{"no stages", nil, []string{"handler"}},
		{"the first stage is the outermost", Chain{a, b, c}, three},
		{"a chain is a stage of a longer one", Chain{a, Chain{b, c}}, three},
		{"a chain of chains is as long as its stages", Chain{Chain{a}, Chain{}, Chain{b, Chain{c}}}, three},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := tt.chain.Then(last)
			for range 2 { // a chain is put together once and used often
				log = nil
				if err := h.Serve(t.Context(), &Conn{}); err != errOne {
					t.Error(err)
				}
				if !slices.Equal(log, tt.want) {
					t.Errorf("%q, want %q", log, tt.want)
				}
			}
		})
	}
}

func TestReceive(t *testing.T) {
	server, client := net.Pipe()
	var got bytes.Buffer
	done := play(client, says("hello, "), says("world"), ends)
	if err := Serve(t.Context(), server, 1, Chain{into(&got)}.Then(Receive)); err != nil {
		t.Error(err)
	}
	if got.String() != "hello, world" {
		t.Errorf("received %q", got.String())
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Everything at the same time: every kind of ending, in one chain that is
// shared by all connections.
func TestServeConcurrency(t *testing.T) {
	const conns = 100
	var (
		store = newMapStore()
		lines lineWriter
		h     = Chain{
			Save{Store: store, Name: NumberedFile, Mark: ErrorMark},
			Report{W: &lines},
			Recover{},
			Count{},
			Idle{Limit: patience},
			Handshake{Script: Accio},
			StageFunc(func(next Handler) Handler {
				return HandlerFunc(func(ctx context.Context, c *Conn) error {
					err := next.Serve(ctx, c)
					if c.Number%5 == 4 {
						panic("stop")
					}
					return err
				})
			}),
		}.Then(Receive)
		wantFiles = map[string]string{}
		wantLines []string
		wg        sync.WaitGroup
	)
	for n := range conns {
		server, client := tcpPair(t)
		payload := string(noise(n*509, byte(n)))
		var talk []act
		var orderly bool
		file, line := ErrorMark, ErrorMark
		switch n % 5 {
		case 0: // a payload, after the greetings
			talk = []act{hears(accioGreeting), says(accioConfirm), hears(accioGreeting), says(accioConfirmAgain), says(payload), ends}
			orderly, file, line = true, payload, strconv.Itoa(len(payload))
		case 1: // a payload, without waiting for them
			talk = []act{says(accioConfirm + accioConfirmAgain + payload), ends}
			orderly, file, line = true, payload, strconv.Itoa(len(payload))
		case 2: // an early end
			talk = []act{hears(accioGreeting), says(accioConfirm[:n%15]), ends}
			orderly, file, line = true, "", "0"
		case 3: // something else
			talk = []act{hears(accioGreeting), says("hello\r\n")}
		case 4: // a panic, after the payload
			talk = []act{hears(accioGreeting), says(accioConfirm), hears(accioGreeting), says(accioConfirmAgain), says(payload), ends}
		}
		wantFiles[strconv.Itoa(n)+".file"] = file
		wantLines = append(wantLines, line+"\n")
		wg.Go(func() {
			if err := Serve(t.Context(), server, uint64(n), h); (err == nil) != orderly {
				t.Errorf("connection %d ended with %v", n, err)
			}
		})
		wg.Go(func() {
			if err := <-play(client, talk...); err != nil {
				t.Errorf("the peer of connection %d: %v", n, err)
			}
			if err := farewell(client); (err == nil) != orderly {
				t.Errorf("the peer of connection %d saw it end with %v", n, err)
			}
		})
	}
	wg.Wait()

	for name, want := range wantFiles {
		if got, ok := store.files[name]; !ok || got != want {
			t.Errorf("%s has %d bytes, want %d", name, len(got), len(want))
		}
	}
	if len(store.files) != conns {
		t.Errorf("%d files, want %d", len(store.files), conns)
	}
	slices.Sort(lines.writes)
	slices.Sort(wantLines)
	if !slices.Equal(lines.writes, wantLines) {
		t.Errorf("reported %q,\nwant %q", strings.Join(lines.writes, ""), strings.Join(wantLines, ""))
	}
}
