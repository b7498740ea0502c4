package send

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/transport/transporttest/memnet"
)

// testSender is a Sender whose limits can be told apart.
func testSender() Sender {
	return Sender{Script: stage.Accio.Mirror(), Greeting: 5 * time.Second, Stall: 10 * time.Second, Confirm: 20 * time.Second}
}

// hearsAll is a peer that takes what is sent until its end, which is to be s.
func hearsAll(s string) act {
	return func(c net.Conn) error {
		b, err := io.ReadAll(c)
		if err == nil && string(b) != s {
			err = fmt.Errorf("heard %q, want %q", b, s)
		}
		return err
	}
}

// hearsFirst is a peer that takes s, however it is cut.
func hearsFirst(s string) act {
	return func(c net.Conn) error {
		b := make([]byte, len(s))
		_, err := io.ReadFull(c, b)
		if err == nil && string(b) != s {
			err = fmt.Errorf("heard %q, want %q", b, s)
		}
		return err
	}
}

// shakes is a server that speaks its half of the handshake.
func shakes(c net.Conn) error { return stage.Accio.Run(c, c) }

func TestSend(t *testing.T) {
	slow := []any{"hello, ", time.Minute, "world", time.Minute}
	tests := []struct {
		name   string
		src    io.Reader
		server []act
		step   string // where it fails; nothing if it does not
		sent   int64
		is     []error
		after  time.Duration
	}{
		{name: "a payload that the server confirms",
			server: []act{shakes, hearsAll("hello, world"), net.Conn.Close}, sent: 12},
		{name: "a payload that the server confirms after a while",
			server: []act{shakes, hearsAll("hello, world"), pauses(19 * time.Second), net.Conn.Close}, sent: 12, after: 19 * time.Second},
		{name: "an empty payload", src: strings.NewReader(""),
			server: []act{shakes, hearsAll(""), net.Conn.Close}},
		{name: "a payload that is slow to come", src: &slowPayload{slow},
			server: []act{shakes, hearsAll("hello, world"), net.Conn.Close}, sent: 12, after: 2 * time.Minute},
		{name: "a server that is slow to greet",
			server: []act{pauses(4 * time.Second), says(accioGreeting), hearsFirst(accioConfirm), pauses(4 * time.Second), says(accioGreeting), hearsAll(accioConfirmAgain + "hello, world"), net.Conn.Close},
			sent:   12, after: 8 * time.Second},
		{name: "a greeting in pieces",
			server: []act{says("acc"), pauses(time.Second), says("io\r"), says("\n"), hearsFirst(accioConfirm), says(accioGreeting), hearsAll(accioConfirmAgain + "hello, world"), net.Conn.Close},
			sent:   12, after: time.Second},

		{name: "a server that never greets", step: Handshake, is: []error{stage.ErrIdle}, after: 5 * time.Second},
		{name: "a server that greets once only", server: []act{says(accioGreeting)}, step: Handshake, is: []error{stage.ErrIdle}, after: 5 * time.Second},
		{name: "a server that stops within its greeting",
			server: []act{says("acc"), pauses(4 * time.Second), says("i")}, step: Handshake, is: []error{stage.ErrIdle}, after: 5 * time.Second},
		{name: "a server that greets otherwise", server: []act{says("220 hello\r\n")}, step: Handshake, is: []error{stage.ErrProtocol}},
		{name: "a server that closes instead of a greeting", server: []act{net.Conn.Close}, step: Handshake, is: []error{ErrGone}},
		{name: "a server that closes within its greeting", server: []act{says("acc"), net.Conn.Close}, step: Handshake, is: []error{ErrGone}},
		{name: "a server that closes after its first greeting",
			server: []act{says(accioGreeting), hearsFirst(accioConfirm), net.Conn.Close}, step: Handshake, is: []error{ErrGone}},
		{name: "a server that resets instead of a greeting", server: []act{resets}, step: Handshake, is: []error{stage.ErrReset, syscall.ECONNRESET}},

		{name: "a server that gives up in the payload", src: &slowPayload{slow},
			server: []act{shakes, hearsFirst("hello, "), pauses(20 * time.Second), net.Conn.Close}, step: Payload, sent: 7, is: []error{ErrGone}, after: time.Minute},
		{name: "a server that resets in the payload", src: &slowPayload{slow},
			server: []act{shakes, hearsFirst("hello, "), resets}, step: Payload, sent: 7, is: []error{stage.ErrReset, syscall.ECONNRESET}, after: time.Minute},
		{name: "a server that says something in the payload", src: &slowPayload{slow},
			server: []act{shakes, hearsFirst("hello, "), says("what?")}, step: Payload, sent: 7, is: []error{stage.ErrProtocol}, after: time.Minute},
		{name: "a payload that cannot be read", src: iotest.ErrReader(errOne),
			server: []act{shakes}, step: Payload, is: []error{ErrSource, errOne}},
		{name: "a payload that cannot be read to its end", src: io.MultiReader(strings.NewReader("hello"), iotest.ErrReader(errOne)),
			server: []act{shakes}, step: Payload, sent: 5, is: []error{ErrSource, errOne}},

		{name: "a payload that cannot be read, when the server has given up already",
			src:    io.MultiReader(&slowPayload{[]any{"hello", time.Minute}}, iotest.ErrReader(errOne)),
			server: []act{shakes, hearsFirst("hello"), net.Conn.Close}, step: Payload, sent: 5, is: []error{ErrSource, errOne}, after: time.Minute},

		{name: "a server that never confirms",
			server: []act{shakes, hearsAll("hello, world")}, step: Confirm, sent: 12, is: []error{stage.ErrIdle}, after: 20 * time.Second},
		{name: "a server that resets instead of confirming",
			server: []act{shakes, hearsAll("hello, world"), resets}, step: Confirm, sent: 12, is: []error{stage.ErrReset, syscall.ECONNRESET}},
		{name: "a server that says something instead of confirming",
			server: []act{shakes, hearsAll("hello, world"), says("ok")}, step: Confirm, sent: 12, is: []error{stage.ErrProtocol}},
	}
	kinds := []error{stage.ErrIdle, stage.ErrProtocol, stage.ErrReset, stage.ErrShutdown, stage.ErrStorage, ErrSource, ErrGone, stage.ErrPanic}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn, server := wire()
				start := time.Now()
				done := play(server, tt.server...)
				if tt.src == nil {
					tt.src = strings.NewReader("hello, world")
				}
				s := testSender()
				s.Sent = new(stage.Counter)
				n, err := s.Send(t.Context(), conn, tt.src)
				if took := time.Since(start); took < tt.after || took > tt.after+late {
					t.Errorf("ended after %v, want %v", took, tt.after)
				}
				if n != tt.sent || s.Sent.Count() != tt.sent {
					t.Errorf("sent %d, counted %d; want %d", n, s.Sent.Count(), tt.sent)
				}
				var failed *Error
				switch {
				case tt.step == "":
					if err != nil {
						t.Errorf("failed: %v", err)
					}
				case !errors.As(err, &failed):
					t.Fatalf("ended with %v", err)
				default:
					if failed.Step != tt.step || failed.Sent != tt.sent {
						t.Errorf("failed at the %s after %d, want the %s after %d", failed.Step, failed.Sent, tt.step, tt.sent)
					}
					if s := err.Error(); !strings.Contains(s, string(tt.step)) || !strings.Contains(s, fmt.Sprint(tt.sent)) {
						t.Errorf("%q does not say where it failed", s)
					}
				}
				for _, is := range tt.is {
					if !errors.Is(err, is) {
						t.Errorf("%v: is not %q", err, is)
					}
				}
				for _, kind := range kinds {
					wanted := false
					for _, is := range tt.is {
						wanted = wanted || is == kind
					}
					if errors.Is(err, kind) && !wanted {
						t.Errorf("%v: is %q, too", err, kind)
					}
				}
				if err := <-done; err != nil {
					t.Errorf("the server: %v", err)
				}
				// A server that is still there must not take it for the whole.
				if err != nil && tt.step != Confirm {
					if _, end := io.Copy(io.Discard, server); end == nil {
						t.Error("the server saw the client end in order")
					}
				}
			})
		})
	}
}

// tornConn is a connection whose reset is told to the writer, and is an end of
// the stream to the reader then.
type tornConn struct {
	memnet.Conn
	server memnet.Conn
}

func (c tornConn) Write(p []byte) (int, error) {
	if string(p) != "torn" {
		return c.Conn.Write(p)
	}
	c.server.CloseWrite()
	synctest.Wait() // the reader may well be the first to be heard
	return 0, syscall.ECONNRESET
}

func TestSendTellsAResetFromAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, server := wire()
		done := play(server, shakes)
		_, err := testSender().Send(t.Context(), tornConn{conn, server}, strings.NewReader("torn"))
		if !errors.Is(err, stage.ErrReset) || errors.Is(err, ErrGone) {
			t.Errorf("ended with %v", err)
		}
		<-done
	})
}

func TestSendWithoutLimitsWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, server := wire()
		done := play(server, pauses(time.Hour), shakes, hearsAll("hello"), pauses(time.Hour), net.Conn.Close)
		n, err := Sender{Script: stage.Accio.Mirror()}.Send(t.Context(), conn, strings.NewReader("hello"))
		if n != 5 || err != nil {
			t.Errorf("sent %d, %v", n, err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// halfPipe is a net.Pipe, whose writes wait for the peer, with an end of its own.
type halfPipe struct{ net.Conn }

func (halfPipe) CloseWrite() error { return errors.New("not to be called") }

func TestSendToAServerThatTakesNothing(t *testing.T) {
	for _, tt := range []struct {
		name  string
		takes int64
		after time.Duration
	}{
		{"nothing", 0, 10 * time.Second},
		{"a part", 5, 20 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn, server := net.Pipe()
				start := time.Now()
				peer := []act{shakes}
				if tt.takes > 0 {
					peer = append(peer, pauses(3*time.Second), takes(tt.takes))
				}
				done := play(server, peer...)
				n, err := testSender().Send(t.Context(), halfPipe{conn}, strings.NewReader("hello, world"))
				var failed *Error
				if n != tt.takes || !errors.Is(err, stage.ErrIdle) || !errors.As(err, &failed) || failed.Step != Payload {
					t.Errorf("sent %d, %v", n, err)
				}
				if took := time.Since(start); took < tt.after || took > tt.after+late {
					t.Errorf("ended after %v, want %v", took, tt.after)
				}
				<-done
			})
		})
	}
}

func TestACancelledContextEndsASend(t *testing.T) {
	tests := []struct {
		name   string
		server []act
		src    io.Reader
		step   string
	}{
		{"before a greeting", nil, nil, Handshake},
		{"between two greetings", []act{says(accioGreeting)}, nil, Handshake},
		{"before it is confirmed", []act{shakes, hearsAll("hello, world")}, nil, Confirm},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn, server := wire()
				ctx, cancel := context.WithCancelCause(t.Context())
				start := time.Now()
				time.AfterFunc(time.Second, func() { cancel(errOne) })
				done := play(server, tt.server...)
				_, err := testSender().Send(ctx, conn, strings.NewReader("hello, world"))
				var failed *Error
				if !errors.Is(err, stage.ErrShutdown) || !errors.Is(err, errOne) || !errors.As(err, &failed) || failed.Step != tt.step {
					t.Errorf("ended with %v", err)
				}
				if took := time.Since(start); took != time.Second {
					t.Errorf("ended after %v", took)
				}
				if err := <-done; err != nil {
					t.Error(err)
				}
				if _, end := io.Copy(io.Discard, server); end == nil && tt.step != Confirm {
					t.Error("the server saw the client end in order")
				}
			})
		})
	}
}

// A source that has nothing to say for now keeps nobody waiting.
func TestSendDoesNotWaitForASilentSource(t *testing.T) {
	for _, tt := range []struct {
		name string
		ends func(server net.Conn, cancel context.CancelCauseFunc)
		is   error
	}{
		{"when the server closes", func(server net.Conn, _ context.CancelCauseFunc) { server.Close() }, ErrGone},
		{"when the server resets", func(server net.Conn, _ context.CancelCauseFunc) { resets(server) }, stage.ErrReset},
		{"when it is cancelled", func(_ net.Conn, cancel context.CancelCauseFunc) { cancel(errOne) }, errOne},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn, server := tcpPair(t)
			src, silent, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer src.Close()
			defer silent.Close()
			ctx, cancel := context.WithCancelCause(t.Context())
			done := play(server, shakes, func(net.Conn) error {
				tt.ends(server, cancel)
				return nil
			})
			_, err = testSender().Send(ctx, conn, src)
			var failed *Error
			if !errors.Is(err, tt.is) || errors.Is(err, ErrSource) || !errors.As(err, &failed) || failed.Step != Payload {
				t.Errorf("ended with %v", err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// A deadline of the source's own is a failure of the source.
func TestSendFromASourceWithADeadline(t *testing.T) {
	conn, server := tcpPair(t)
	src, silent, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	defer silent.Close()
	src.SetReadDeadline(time.Unix(1, 0))
	done := play(server, shakes)
	if _, err := testSender().Send(t.Context(), conn, src); !errors.Is(err, ErrSource) || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("ended with %v", err)
	}
	<-done
}

// A file that is shorter than it was is not what was to be sent.
func TestSendOfAFileThatShrinks(t *testing.T) {
	conn, server := tcpPair(t)
	file, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Truncate(64 << 20); err != nil { // more than a connection holds
		t.Fatal(err)
	}
	done := play(server, shakes, hearsFirst("\x00"), func(c net.Conn) error {
		if err := file.Truncate(1); err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, c); err == nil {
			return errors.New("the client ended in order")
		}
		return nil
	})
	if _, err := testSender().Send(t.Context(), conn, file); !errors.Is(err, ErrSource) || !strings.Contains(err.Error(), "shrunk") {
		t.Errorf("ended with %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A counter may serve several sends.
func TestSendCountsItsOwnBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testSender()
		s.Sent = new(stage.Counter)
		for range 2 {
			conn, server := wire()
			done := play(server, shakes, hearsAll("hello"), net.Conn.Close)
			if n, err := s.Send(t.Context(), conn, strings.NewReader("hello")); n != 5 || err != nil {
				t.Errorf("sent %d, %v", n, err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if n := s.Sent.Count(); n != 10 {
			t.Errorf("counted %d", n)
		}
	})
}

// A server that has closed before the client's end has not kept the payload,
// even if nobody has looked until then.
func TestSendTakesAnEarlyCloseForNoConfirmation(t *testing.T) {
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			conn, server := wire()
			done := play(server, shakes, hearsFirst("hello"))
			closes := readerFunc(func([]byte) (int, error) {
				synctest.Wait() // until it has heard: a close before that is a reset
				server.Close()
				return 0, io.EOF
			})
			_, err := testSender().Send(t.Context(), conn, io.MultiReader(strings.NewReader("hello"), closes))
			if !errors.Is(err, ErrGone) {
				t.Errorf("ended with %v", err)
			}
			<-done
		})
		if t.Failed() {
			return
		}
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// What is sent before the script has it could be taken for a part of it.
func TestSendDoesNotReadThePayloadBeforeItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, server := wire()
		var shaken atomic.Bool
		done := play(server, says(accioGreeting), hears(accioConfirm), pauses(time.Second), func(c net.Conn) error {
			shaken.Store(true)
			return says(accioGreeting)(c)
		}, hearsAll(accioConfirmAgain+"hello"), net.Conn.Close)
		src := strings.NewReader("hello")
		_, err := testSender().Send(t.Context(), conn, readerFunc(func(p []byte) (int, error) {
			if !shaken.Load() {
				t.Error("the payload was read before the second greeting")
			}
			return src.Read(p)
		}))
		if err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestAPanicOfThePayloadsSourceResets(t *testing.T) {
	conn, server := wire()
	done := play(server, shakes)
	func() {
		defer func() {
			if v := recover(); v != errOne {
				t.Errorf("the panic has become %v", v)
			}
		}()
		testSender().Send(t.Context(), conn, readerFunc(func([]byte) (int, error) { panic(errOne) }))
	}()
	<-done
	if farewell(server) == nil {
		t.Error("the server saw an orderly end")
	}
}

func TestSendOverAConnectionThatCannotEndItsStream(t *testing.T) {
	conn, server := net.Pipe()
	done := play(server, shakes, hearsAll(""))
	_, err := Sender{Script: stage.Accio.Mirror()}.Send(t.Context(), conn, strings.NewReader("hello"))
	if err == nil {
		t.Error("it succeeded")
	}
	<-done
}

func TestSendToServe(t *testing.T) {
	payload := strings.Repeat("hello, world", 25_000)
	for _, fails := range []bool{false, true} {
		t.Run(fmt.Sprint("with a store that fails: ", fails), func(t *testing.T) {
			server, client := tcpPair(t)
			var got strings.Builder
			served := make(chan error, 1)
			go func() {
				served <- stage.Serve(t.Context(), server, 1, stage.Chain{stage.Handshake{Script: stage.Accio}}.Then(
					stage.HandlerFunc(func(_ context.Context, c *stage.Conn) error {
						if _, err := stage.Copy(&got, c.In); err != nil || !fails {
							return err
						}
						return stage.ErrStorage
					})))
			}()
			n, err := testSender().Send(t.Context(), client, strings.NewReader(payload))
			if n != int64(len(payload)) || (err != nil) != fails {
				t.Errorf("sent %d, %v", n, err)
			}
			var failed *Error
			if fails && (!errors.As(err, &failed) || failed.Step != Confirm || !errors.Is(err, stage.ErrReset)) {
				t.Errorf("ended with %v", err)
			}
			if err := <-served; errors.Is(err, stage.ErrStorage) != fails {
				t.Errorf("served with %v", err)
			}
			if got.String() != payload {
				t.Errorf("%d bytes arrived", got.Len())
			}
		})
	}
}
