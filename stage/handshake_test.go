package stage

import (
	"bytes"
	"context"
	"errors"

	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// header is what a client says before its payload.
const header = accioConfirm + accioConfirmAgain

// shaken is what came of a handshake.
type shaken struct {
	err     error
	called  bool // the next handler was
	payload string
}

// shake serves server through a handshake, under an Idle limit.
func shake(t *testing.T, server net.Conn, script Script) (got shaken) {
	var payload bytes.Buffer
	got.err = Serve(t.Context(), server, 1, Chain{
		into(&payload),
		Idle{Limit: idleLimit},
		Handshake{Script: script},
	}.Then(HandlerFunc(func(ctx context.Context, c *Conn) error {
		got.called = true
		return Receive.Serve(ctx, c)
	})))
	got.payload = payload.String()
	return got
}

// strict is the script that does not allow an early end.
func strict() Script { return Script{Steps: Accio.Steps} }

func TestHandshake(t *testing.T) {
	payloads := map[string]string{
		"no payload":                               "",
		"one byte":                                 "x",
		"a payload":                                "hello, world",
		"a payload that is a greeting":             accioGreeting,
		"a payload that begins with a greeting":    accioGreeting + "hello",
		"a payload that is a confirmation":         accioConfirm,
		"a payload that is the other confirmation": accioConfirmAgain,
		"a payload that is a header":               header,
		"a payload of headers":                     strings.Repeat(header, 9),
		"a payload that begins with a line's end":  "\r\nhello",
		"a payload that ends the header again":     "\r\n\r\n",
		"a payload of zeros":                       "\x00\x00\x00",
		"a payload that is no text":                string(noise(5000, 3)),
	}
	for name, payload := range payloads {
		t.Run(name, func(t *testing.T) {
			for network, open := range inMemory {
				server, client := open()
				done := play(client, hears(accioGreeting), says(accioConfirm), hears(accioGreeting), says(accioConfirmAgain), says(payload), ends)
				got := shake(t, server, Accio)
				if got.err != nil || !got.called {
					t.Errorf("on %s: %v (next handler called: %t)", network, got.err, got.called)
				}
				sameBytes(t, []byte(got.payload), []byte(payload))
				if err := <-done; err != nil {
					t.Errorf("the peer on %s: %v", network, err)
				}
			}
		})
	}
}

// However the stream is cut, the handshake takes its own bytes and no other,
// also where they come before they are asked for.
func TestHandshakePieces(t *testing.T) {
	stream := header + "\r\n" + accioConfirm + "x"
	want := stream[len(header):]
	cut := func(t *testing.T, pieces ...string) {
		t.Helper()
		server, client := wire()
		for _, p := range pieces {
			says(p)(client)
		}
		ends(client)
		if got := shake(t, server, Accio); got.err != nil || got.payload != want {
			t.Errorf("cut into %q it ended with %v and payload %q, want %q", pieces, got.err, got.payload, want)
		}
	}
	t.Run("not at all", func(t *testing.T) { cut(t, stream) })
	t.Run("into two", func(t *testing.T) {
		for i := 1; i < len(stream); i++ {
			cut(t, stream[:i], stream[i:])
		}
	})
	t.Run("into three", func(t *testing.T) {
		for i := 1; i < len(stream); i++ {
			for j := i + 1; j < len(stream); j++ {
				cut(t, stream[:i], stream[i:j], stream[j:])
			}
		}
	})
	t.Run("into pieces of one length", func(t *testing.T) {
		for n := 1; n < len(stream); n++ {
			var pieces []string
			for p := range slices.Chunk([]byte(stream), n) {
				pieces = append(pieces, string(p))
			}
			cut(t, pieces...)
		}
	})
	t.Run("into bytes, one every nine seconds", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			server, client := wire()
			var peer []act
			for _, b := range []byte(stream) {
				peer = append(peer, pauses(9*time.Second), says(string(b)))
			}
			done := play(client, append(peer, ends)...)
			if got := shake(t, server, Accio); got.err != nil || got.payload != want {
				t.Errorf("ended with %v and payload %q", got.err, got.payload)
			}
			<-done
		})
	})
}

// counted is a reader that can be asked what is left.
type counted struct {
	r    *strings.Reader
	most int // bytes per read, or 0 for as many as are wanted
}

func (c *counted) Read(p []byte) (int, error) {
	if c.most > 0 {
		p = p[:min(len(p), c.most)]
	}
	return c.r.Read(p)
}

func TestHandshakeLeavesThePayload(t *testing.T) {
	for most := range len(header) {
		in := &counted{strings.NewReader(header + "payload"), most}
		if err := Accio.Run(in, io.Discard); err != nil {
			t.Fatal(err)
		}
		if rest, _ := io.ReadAll(in.r); string(rest) != "payload" {
			t.Errorf("with reads of at most %d bytes it left %q", most, rest)
		}
	}
}

func TestHandshakeWrongByte(t *testing.T) {
	wrong := func(b byte) []byte { return []byte{b ^ 0x20, b + 1, 0, '\n', 0xff} }
	for at := range len(header) {
		for _, b := range wrong(header[at]) {
			if b == header[at] {
				continue
			}
			pieces := map[string][]string{
				"alone":                       {header[:at], string(b)},
				"beside the right ones":       {header[:at] + string(b)},
				"with all that was to follow": {header[:at] + string(b) + header[at+1:]},
			}
			for how, pieces := range pieces {
				synctest.Test(t, func(t *testing.T) {
					server, client := wire()
					for _, p := range pieces {
						if p != "" {
							says(p)(client)
						}
					}
					start := time.Now()
					got := shake(t, server, Accio)
					if !errors.Is(got.err, ErrProtocol) || got.called {
						t.Errorf("%q at %d, %s: ended with %v (next handler called: %t)", b, at, how, got.err, got.called)
					}
					if took := time.Since(start); took != 0 {
						t.Errorf("%q at %d, %s: refused after %v", b, at, how, took)
					}
				})
			}
		}
	}
}

func TestHandshakeCut(t *testing.T) {
	// The greetings that a peer hears which has sent so many bytes.
	greetings := func(sent int) []byte {
		if sent < len(accioConfirm) {
			return []byte(accioGreeting)
		}
		return []byte(accioGreeting + accioGreeting)
	}
	tests := []struct {
		name    string
		script  Script
		breaks  act // nothing for a peer that falls silent
		is, not []error
		after   time.Duration
	}{
		{"an end that is allowed is an empty payload", Accio, ends, nil, nil, 0},
		{"an end that is not allowed is against the protocol", strict(), ends, []error{ErrProtocol, io.ErrUnexpectedEOF}, []error{ErrReset}, 0},
		{"a reset is a reset", Accio, resets, []error{ErrReset, syscall.ECONNRESET}, []error{ErrProtocol}, 0},
		{"a reset is one too where no end is allowed", strict(), resets, []error{ErrReset}, []error{ErrProtocol}, 0},
		{"silence is silence", Accio, nil, []error{ErrIdle}, []error{ErrProtocol, ErrReset}, idleLimit},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for sent := range len(header) {
				synctest.Test(t, func(t *testing.T) {
					server, client := wire()
					var heard bytes.Buffer
					// It hears both greetings before it breaks off, so that it
					// is what comes in that fails.
					peer := []act{says(header[:sent]), func(c net.Conn) error {
						_, err := io.CopyN(&heard, c, int64(len(greetings(sent))))
						return err
					}, pauses(time.Second)}
					after := time.Second + tt.after
					if tt.breaks != nil {
						peer = append(peer, tt.breaks)
					} else {
						after = tt.after
					}
					if sent == 0 {
						peer = peer[1:]
					}
					start := time.Now()
					done := play(client, peer...)
					got := shake(t, server, tt.script)
					if took := time.Since(start); took < after || took > after+idleError {
						t.Errorf("after %d bytes: ended after %v, want %v", sent, took, after)
					}
					if got.called {
						t.Errorf("after %d bytes: the next handler was called", sent)
					}
					if (got.err == nil) != (tt.is == nil) {
						t.Errorf("after %d bytes: ended with %v", sent, got.err)
					}
					for _, is := range tt.is {
						if !errors.Is(got.err, is) {
							t.Errorf("after %d bytes: %v is not: %v", sent, got.err, is)
						}
					}
					for _, not := range tt.not {
						if errors.Is(got.err, not) {
							t.Errorf("after %d bytes: %v is: %v", sent, got.err, not)
						}
					}
					if err := <-done; err != nil {
						t.Error(err)
					}
					if !bytes.Equal(heard.Bytes(), greetings(sent)) {
						t.Errorf("after %d bytes: the peer heard %q", sent, heard.Bytes())
					}
				})
			}
		})
	}
}

// turns is a peer of a script, as a reader and a writer, that keeps account of
// whose turn it was.
type turns struct {
	in  io.Reader
	log []string
	err error // of each Write
}

func (p *turns) Read(b []byte) (int, error) {
	n, err := p.in.Read(b)
	if n > 0 {
		p.log = append(p.log, "hears "+string(b[:n]))
	}
	return n, err
}

func (p *turns) Write(b []byte) (int, error) {
	p.log = append(p.log, "says "+string(b))
	return len(b), p.err
}

func TestScriptOrder(t *testing.T) {
	tests := []struct {
		name   string
		script Script
		in     string
		want   []string
	}{
		{"the server's half of the Accio protocol", Accio, header,
			[]string{"says " + accioGreeting, "hears " + accioConfirm, "says " + accioGreeting, "hears " + accioConfirmAgain}},
		{"the client's half of the Accio protocol", Accio.Mirror(), accioGreeting + accioGreeting,
			[]string{"hears " + accioGreeting, "says " + accioConfirm, "hears " + accioGreeting, "says " + accioConfirmAgain}},
		{"a script of nothing", Script{}, "payload", nil},
		{"steps of nothing", Script{Steps: []Step{{Send: ""}, {Expect: ""}, {}}}, "payload", nil},
		{"two words in a row are sent in two writes", Script{Steps: []Step{{Send: "a"}, {Send: "b"}}}, "", []string{"says a", "says b"}},
		{"a word that is long is sent in one write", Script{Steps: []Step{{Send: strings.Repeat("x", 100_000)}}}, "", []string{"says " + strings.Repeat("x", 100_000)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := &turns{in: strings.NewReader(tt.in)}
			if err := tt.script.Run(NewReader(p, new(Counter)), NewWriter(p, new(Counter))); err != nil {
				t.Error(err)
			}
			if !slices.Equal(p.log, tt.want) {
				t.Errorf("%q, want %q", p.log, tt.want)
			}
		})
	}
}

func TestScriptReaders(t *testing.T) {
	long := strings.Repeat("0123456789", 1000)
	script := Script{Steps: []Step{{Expect: "short"}, {Expect: long}, {Expect: "end"}}}
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"as much as is wanted":    func(r io.Reader) io.Reader { return r },
		"one byte at a time":      iotest.OneByteReader,
		"half of what is wanted":  iotest.HalfReader,
		"the end beside the data": iotest.DataErrReader,
		"nothing now and then": func(r io.Reader) io.Reader {
			p := &parts{}
			for _, b := range []byte("short" + long + "end") {
				p.left = append(p.left, part{"", nil}, part{string(b), nil})
			}
			return p
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := script.Run(wrap(strings.NewReader("short"+long+"end")), io.Discard); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestScriptErrors(t *testing.T) {
	tests := []struct {
		name string
		in   io.Reader
		werr error
		is   error
		step string
	}{
		{"in what it says", strings.NewReader(header), errOne, errOne, "step 1"},
		{"in what it hears", iotest.ErrReader(errOne), nil, errOne, "step 2"},
		{"in the middle of a word", io.MultiReader(strings.NewReader(accioConfirm[:4]), iotest.ErrReader(errOne)), nil, errOne, "step 2"},
		{"between two words", io.MultiReader(strings.NewReader(accioConfirm), iotest.ErrReader(errOne)), nil, errOne, "step 4"},
		{"beside the middle of a word", &parts{[]part{{accioConfirm[:4], errOne}}}, nil, errOne, "step 2"},
		{"beside a wrong byte", &parts{[]part{{"hello", errOne}}}, nil, ErrProtocol, "step 2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Accio.Run(tt.in, &turns{err: tt.werr})
			if !errors.Is(err, tt.is) {
				t.Errorf("%v, want %v", err, tt.is)
			}
			if err == nil || !strings.Contains(err.Error(), tt.step) {
				t.Errorf("%v does not say that it was %s", err, tt.step)
			}
		})
	}
	t.Run("an early end is io.ErrUnexpectedEOF, this very error", func(t *testing.T) {
		for n := range len(header) {
			for _, script := range []Script{Accio, strict()} {
				if err := script.Run(strings.NewReader(header[:n]), io.Discard); err != io.ErrUnexpectedEOF {
					t.Errorf("after %d bytes: %v", n, err)
				}
			}
		}
	})
	t.Run("io.ErrUnexpectedEOF of a reader in between is not the peer's end", func(t *testing.T) {
		called := false
		err := Handshake{Script: Accio}.Wrap(HandlerFunc(func(context.Context, *Conn) error {
			called = true
			return nil
		})).Serve(t.Context(), &Conn{In: iotest.ErrReader(io.ErrUnexpectedEOF), Reply: io.Discard})
		if !errors.Is(err, io.ErrUnexpectedEOF) || called {
			t.Errorf("ended with %v (next handler called: %t)", err, called)
		}
	})
}

// Where the system tells them apart, a peer that hears no longer but ended its
// stream well is heard out, and one whose stream broke off is not.
func TestHandshakeWithADeafClient(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EPIPE, syscall.ECONNRESET} {
		t.Run(errno.Error(), func(t *testing.T) {
			reply := NewWriter(&turns{err: errno}, answers(because(ErrReset, errno)))
			in := strings.NewReader(header + "payload")
			var got []byte
			err := Handshake{Script: Accio}.Wrap(HandlerFunc(func(_ context.Context, c *Conn) error {
				var err error
				got, err = io.ReadAll(c.In)
				return err
			})).Serve(t.Context(), &Conn{In: in, Reply: reply})
			if errno == syscall.EPIPE && resetAfterEnd {
				if err != nil || string(got) != "payload" {
					t.Errorf("ended with %v, after %q", err, got)
				}
			} else if !errors.Is(err, ErrReset) || got != nil {
				t.Errorf("ended with %v, after %q", err, got)
			}
		})
	}
}

func TestScriptMirror(t *testing.T) {
	t.Run("speaks with the original", func(t *testing.T) {
		scripts := map[string]Script{
			"Accio":                  Accio,
			"one that listens first": {Steps: []Step{{Expect: "HELO\n"}, {Send: "OK\n"}, {Expect: "DATA\n"}}},
			"one of many steps":      {Steps: slices.Repeat([]Step{{Send: "a"}, {Expect: "bc"}}, 50)},
			"an empty one":           {},
		}
		for name, script := range scripts {
			for network, open := range inMemory {
				server, client := open()
				mirrored := make(chan error, 1)
				go func() { mirrored <- script.Mirror().Run(client, client) }()
				if err := script.Run(server, server); err != nil {
					t.Errorf("%s on %s: %v", name, network, err)
				}
				if err := <-mirrored; err != nil {
					t.Errorf("the mirror of %s on %s: %v", name, network, err)
				}
			}
		}
	})
	t.Run("allows no early end", func(t *testing.T) {
		if Accio.Mirror().AllowEnd {
			t.Error("it does")
		}
	})
	t.Run("mirrored again is the original", func(t *testing.T) {
		if twice := Accio.Mirror().Mirror(); !slices.Equal(twice.Steps, Accio.Steps) {
			t.Errorf("%v, want %v", twice.Steps, Accio.Steps)
		}
	})
	t.Run("leaves the original as it is", func(t *testing.T) {
		before := slices.Clone(Accio.Steps)
		Accio.Mirror().Steps[0] = Step{Send: "something else"}
		if !slices.Equal(Accio.Steps, before) {
			t.Errorf("%v, want %v", Accio.Steps, before)
		}
	})
}

func TestAccio(t *testing.T) {
	if accioGreeting != "accio\r\n" || accioConfirm != "confirm-accio\r\n" || accioConfirmAgain != "confirm-accio-again\r\n\r\n" {
		t.Errorf("its words are %q, %q and %q", accioGreeting, accioConfirm, accioConfirmAgain)
	}
	if !Accio.AllowEnd {
		t.Error("it does not allow an early end")
	}
}

func TestHandshakeOverTCP(t *testing.T) {
	payload := string(noise(100_000, 4))
	tests := []struct {
		name    string
		peer    []act
		err     error
		called  bool
		payload string
	}{
		{"a client that waits for each greeting",
			[]act{hears(accioGreeting), says(accioConfirm), hears(accioGreeting), says(accioConfirmAgain + payload), ends},
			nil, true, payload},
		{"a client that sends all in one",
			[]act{says(header + payload), ends},
			nil, true, payload},
		{"a client that ends its stream before the header is complete",
			[]act{hears(accioGreeting), says(accioConfirm[:9]), ends},
			nil, false, ""},
		{"a client that says something else",
			[]act{hears(accioGreeting), says("GET / HTTP/1.1\r\n\r\n")},
			ErrProtocol, false, ""},
		{"a client that resets in the header",
			[]act{hears(accioGreeting), says(accioConfirm[:9]), resets},
			ErrReset, false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server, client := tcpPair(t)
			done := play(client, tt.peer...)
			got := shake(t, server, Accio)
			if !errors.Is(got.err, tt.err) || got.called != tt.called {
				t.Errorf("ended with %v (next handler called: %t)", got.err, got.called)
			}
			sameBytes(t, []byte(got.payload), []byte(tt.payload))
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("a client that resets in the payload", func(t *testing.T) {
		server, client := tcpPair(t)
		says(header + "half of it")(client)
		err := Serve(t.Context(), server, 1, Handshake{Script: Accio}.Wrap(HandlerFunc(func(ctx context.Context, c *Conn) error {
			if _, err := c.In.Read(make([]byte, 1)); err != nil {
				return err
			}
			resets(client)
			return Receive.Serve(ctx, c)
		})))
		if !errors.Is(err, ErrReset) {
			t.Errorf("ended with %v", err)
		}
	})
}

// FuzzHandshake has bytes come in pieces whose lengths are those of cuts, the
// last of them with the end of the stream beside it or after it.
func FuzzHandshake(f *testing.F) {
	f.Fuzz(func(t *testing.T, sent, cuts []byte, endBeside, allowEnd bool) {
		right := 0
		for right < min(len(sent), len(header)) && sent[right] == header[right] {
			right++
		}
		in := &cutReader{t: t, left: sent, cuts: cuts, endBeside: endBeside, right: right}
		out := &turns{}
		script := Script{Steps: Accio.Steps, AllowEnd: allowEnd}
		var payload []byte
		called := false
		err := Handshake{Script: script}.Wrap(HandlerFunc(func(_ context.Context, c *Conn) error {
			called = true
			if in.taken != len(header) {
				t.Errorf("took %d bytes for the header", in.taken)
			}
			var err error
			payload, err = io.ReadAll(c.In)
			return err
		})).Serve(t.Context(), &Conn{In: in, Reply: out})

		switch complete, ended := right == len(header), right == len(sent); {
		case complete:
			if err != nil || !called || !bytes.Equal(payload, sent[len(header):]) {
				t.Errorf("a header and %q: %v (next handler called: %t, with %q)", sent[len(header):], err, called, payload)
			}
		case ended && allowEnd:
			if err != nil || called {
				t.Errorf("an end after %d bytes: %v (next handler called: %t)", right, err, called)
			}
		default:
			if !errors.Is(err, ErrProtocol) || called {
				t.Errorf("%q: %v (next handler called: %t)", sent, err, called)
			}
			if !ended && in.taken > len(header) {
				t.Errorf("took %d bytes to see that byte %d is wrong", in.taken, right)
			}
		}
		want := []string{"says " + accioGreeting}
		if right >= len(accioConfirm) {
			want = append(want, "says "+accioGreeting)
		}
		if !slices.Equal(out.log, want) {
			t.Errorf("after %d right bytes: %q, want %q", right, out.log, want)
		}
	})
}

// cutReader returns left in pieces, and may not be read once a wrong byte is
// out.
type cutReader struct {
	t         *testing.T
	left      []byte
	cuts      []byte // 0 is a read of nothing; after the last one, all that is wanted
	endBeside bool
	right     int // bytes that follow the protocol
	taken     int
}

func (r *cutReader) Read(p []byte) (int, error) {
	if r.right < len(header) && r.taken > r.right {
		r.t.Errorf("read on after the wrong byte %d", r.right)
	}
	n := min(len(p), len(r.left))
	if len(r.cuts) > 0 {
		n = min(n, int(r.cuts[0]))
		r.cuts = r.cuts[1:]
	}
	empty := len(r.left) == 0
	copy(p, r.left[:n])
	r.left = r.left[n:]
	r.taken += n
	if empty || n > 0 && len(r.left) == 0 && r.endBeside {
		return n, io.EOF
	}
	return n, nil
}

// A peer that does not listen takes its time as one that does not speak.
func TestHandshakeLimitOfWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := net.Pipe()
		defer client.Close()
		begun := time.Now()
		err := Serve(t.Context(), server, 1, Handshake{Script: Script{Steps: []Step{{Send: "hello"}}}, Limit: time.Second}.Wrap(Receive))
		if took := time.Since(begun); !errors.Is(err, ErrSlowHandshake) || took != time.Second {
			t.Errorf("ended with %v after %v", err, took)
		}
	})
}
