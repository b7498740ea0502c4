package tlsstage

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/transport/transporttest/memnet"
)

// into sets the sink.
func into(w io.Writer) stage.Stage {
	return stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
		c.Out = w
		return nil, nil
	})
}

// afterwards calls f when what is inside has ended, as what commits does.
func afterwards(f func(c *stage.Conn, err error)) stage.Stage {
	return stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
		return func(err error) error {
			f(c, err)
			return err
		}, nil
	})
}

// play has a client act on the connection that is under its TLS, and the TLS.
func play(t testing.TB, nc net.Conn, config *tls.Config, act func(c *tls.Conn, nc net.Conn) error) (done <-chan error) {
	ended := make(chan error, 1)
	go func() {
		c := tls.Client(strict{nc}, config)
		err := act(c, nc)
		if err != nil {
			nc.Close()
		}
		ended <- err
	}()
	return ended
}

// sends is a client that sends payload, ends its stream, and waits for the server's word.
func sends(payload []byte) func(c *tls.Conn, nc net.Conn) error {
	return func(c *tls.Conn, _ net.Conn) error {
		if _, err := c.Write(payload); err != nil {
			return err
		}
		if err := c.CloseWrite(); err != nil {
			return err
		}
		return farewell(c)
	}
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	src := rand.NewChaCha8([32]byte{byte(n)})
	src.Read(b)
	return b
}

var versions = map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13}

func TestPayload(t *testing.T) {
	server, client := newAuthority(t).configs(t)
	for network, open := range networks {
		for version, v := range versions {
			for _, size := range []int{0, 1, 16 << 10, 3<<20 + 1} {
				t.Run(fmt.Sprintf("%d bytes by %s over %s", size, version, network), func(t *testing.T) {
					want := randomBytes(size)
					config := client.Clone()
					config.MaxVersion = v
					s, c := open(t)
					done := play(t, c, config, sends(want))
					var got bytes.Buffer
					var state tls.ConnectionState
					look := stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
						var ok bool
						if state, ok = State(c); !ok {
							t.Error("inside of TLS there is no state of it")
						}
						if got, want := c.Net.RemoteAddr().String(), s.RemoteAddr().String(); got != want {
							t.Errorf("the client's address is %v, want %v", got, want)
						}
						return nil, nil
					})
					err := stage.Serve(t.Context(), s, 1, stage.Chain{into(&got), TLS{Config: server}, look}.Then(stage.Receive))
					if err != nil {
						t.Errorf("ended with %v", err)
					}
					if err := <-done; err != nil {
						t.Errorf("the client: %v", err)
					}
					if !bytes.Equal(got.Bytes(), want) {
						t.Errorf("got %d bytes, want %d, or others", got.Len(), len(want))
					}
					if state.Version != v || state.ServerName != "server" {
						t.Errorf("the state is %x, %q", state.Version, state.ServerName)
					}
				})
			}
		}
	}
}

func TestNoStateOutsideOfTLS(t *testing.T) {
	s, _ := memnet.Pair()
	if _, ok := State(stage.NewConn(s, 1)); ok {
		t.Error("there is one")
	}
}

// A protocol inside of TLS, and one that goes before it: TLS begins at the first byte
// after that.
func TestDialogues(t *testing.T) {
	server, client := newAuthority(t).configs(t)
	for network, open := range networks {
		t.Run(network, func(t *testing.T) {
			s, c := open(t)
			before := stage.Script{Steps: []stage.Step{{Expect: "STARTTLS\n"}, {Send: "OK\n"}}}
			ended := make(chan error, 1)
			go func() {
				// Hello is sent at once after the word, without waiting for the answer.
				if _, err := io.WriteString(c, "STARTTLS\n"); err != nil {
					ended <- err
					return
				}
				tc := tls.Client(&skips{Conn: strict{c}, n: len("OK\n")}, client)
				if err := stage.Accio.Mirror().Run(tc, tc); err != nil {
					ended <- err
					return
				}
				ended <- sends([]byte("payload"))(tc, c)
			}()
			var got bytes.Buffer
			err := stage.Serve(t.Context(), s, 1, stage.Chain{
				into(&got),
				stage.Handshake{Script: before, Limit: patience},
				TLS{Config: server, Limit: patience},
				stage.Handshake{Script: stage.Accio, Limit: patience},
			}.Then(stage.Receive))
			if err != nil || got.String() != "payload" {
				t.Errorf("got %q, ended with %v", got.String(), err)
			}
			if err := <-ended; err != nil {
				t.Errorf("the client: %v", err)
			}
		})
	}
}

// skips is a connection whose first bytes are not read.
type skips struct {
	net.Conn
	n int
}

func (s *skips) Read(p []byte) (int, error) {
	for ; s.n > 0; s.n-- {
		if _, err := s.Conn.Read(make([]byte, 1)); err != nil {
			return 0, err
		}
	}
	return s.Conn.Read(p)
}

// A client that has ended its stream still hears what the server answers, also from
// stages outside when they are done; the goodbye comes last.
func TestAnswersAfterTheEndOfTheStream(t *testing.T) {
	server, client := newAuthority(t).configs(t)
	for network, open := range networks {
		for version, v := range versions {
			t.Run(version+" over "+network, func(t *testing.T) {
				config := client.Clone()
				config.MaxVersion = v
				s, c := open(t)
				var heard []byte
				done := play(t, c, config, func(c *tls.Conn, _ net.Conn) (err error) {
					if _, err := c.Write([]byte("payload")); err != nil {
						return err
					}
					if err := c.CloseWrite(); err != nil {
						return err
					}
					c.SetReadDeadline(time.Now().Add(patience))
					heard, err = io.ReadAll(c)
					return err
				})
				answers := func(word string) stage.Stage {
					return afterwards(func(c *stage.Conn, _ error) {
						if _, err := io.WriteString(c.Reply, word); err != nil {
							t.Error(err)
						}
					})
				}
				err := stage.Serve(t.Context(), s, 1, stage.Chain{answers(" saved"), TLS{Config: server}, answers("received,")}.Then(stage.Receive))
				if err != nil {
					t.Errorf("ended with %v", err)
				}
				if err := <-done; err != nil || string(heard) != "received, saved" {
					t.Errorf("the client heard %q, %v", heard, err)
				}
			})
		}
	}
}

// The goodbye is the confirmation: it must not come before what is outside has done its
// work, and comes also if the server is stopped meanwhile.
func TestGoodbyeComesAfterTheCommit(t *testing.T) {
	server, client := newAuthority(t).configs(t)
	for _, stopped := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s, c := memnet.Pair()
			done := play(t, c, client, sends([]byte("payload")))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			commits := afterwards(func(*stage.Conn, error) {
				if stopped {
					cancel()
				}
				synctest.Wait()
				select {
				case err := <-done:
					t.Errorf("the client has its end before the commit: %v", err)
				default:
				}
			})
			if err := stage.Serve(ctx, s, 1, stage.Chain{commits, TLS{Config: server}}.Then(stage.Receive)); err != nil {
				t.Errorf("ended with %v", err)
			}
			if err := <-done; err != nil {
				t.Errorf("stopped: %t; the client: %v", stopped, err)
			}
		})
	}
}

// A stream that ends without a close_notify has been cut, wherever.
func TestACutStreamIsNoEnd(t *testing.T) {
	server, client := newAuthority(t).configs(t)
	type closer interface{ CloseWrite() error }
	cuts := map[string]func(c *tls.Conn, nc net.Conn) error{
		"before the first byte": func(_ *tls.Conn, nc net.Conn) error { return nc.(closer).CloseWrite() },
		"within the first record": func(_ *tls.Conn, nc net.Conn) error {
			if _, err := nc.Write([]byte{22, 3, 1, 1, 0, 1}); err != nil {
				return err
			}
			return nc.(closer).CloseWrite()
		},
		"after the handshake": func(c *tls.Conn, nc net.Conn) error {
			if err := c.Handshake(); err != nil {
				return err
			}
			return nc.(closer).CloseWrite()
		},
		"between two records": func(c *tls.Conn, nc net.Conn) error {
			if _, err := c.Write([]byte("pay")); err != nil {
				return err
			}
			return nc.(closer).CloseWrite()
		},
		"within a record": func(c *tls.Conn, nc net.Conn) error {
			if _, err := c.Write([]byte("pay")); err != nil {
				return err
			}
			if _, err := nc.Write([]byte{23, 3, 3, 0, 100, 1, 2, 3}); err != nil {
				return err
			}
			return nc.(closer).CloseWrite()
		},
	}
	for network, open := range networks {
		for version, v := range versions {
			for where, cut := range cuts {
				t.Run(fmt.Sprintf("%s, by %s over %s", where, version, network), func(t *testing.T) {
					config := client.Clone()
					config.MaxVersion = v
					s, c := open(t)
					done := play(t, c, config, cut)
					var got bytes.Buffer
					err := stage.Serve(t.Context(), s, 1, stage.Chain{into(&got), TLS{Config: server}}.Then(stage.Receive))
					if !errors.Is(err, stage.ErrReset) || !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, stage.ErrProtocol) {
						t.Errorf("ended with %v", err)
					}
					if err := <-done; err != nil {
						t.Errorf("the client: %v", err)
					}
					c.SetReadDeadline(time.Now().Add(patience))
					if _, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
						t.Errorf("the client saw it end with %v", err)
					}
				})
			}
		}
	}
}

// What fails is reset, and not taken for an end by any client; an idle client is told
// goodbye, as it is by a FIN without TLS.
func TestTheCloseTellsTheTruth(t *testing.T) {
	server, client := newAuthority(t).configs(t)
	failure := errors.New("x")
	for network, open := range networks {
		for _, tt := range []struct {
			err  error
			says error
		}{{nil, nil}, {stage.ErrIdle, nil}, {failure, syscall.ECONNRESET}, {stage.ErrStorage, syscall.ECONNRESET}} {
			t.Run(fmt.Sprintf("%v over %s", tt.err, network), func(t *testing.T) {
				s, c := open(t)
				done := play(t, c, client, func(c *tls.Conn, _ net.Conn) error {
					if err := c.Handshake(); err != nil {
						return err
					}
					return farewell(c)
				})
				h := stage.HandlerFunc(func(context.Context, *stage.Conn) error { return tt.err })
				if err := stage.Serve(t.Context(), s, 1, stage.Chain{TLS{Config: server}}.Then(h)); err != tt.err {
					t.Errorf("ended with %v", err)
				}
				if err := <-done; !errors.Is(err, tt.says) {
					t.Errorf("the client saw it end with %v, want %v", err, tt.says)
				}
			})
		}
	}
}

// A client that sends all it has and goes has not been cut.
func TestAClientThatDoesNotListen(t *testing.T) {
	server, client := newAuthority(t).configs(t)
	payload := randomBytes(100_000)
	for version, v := range versions {
		t.Run(version, func(t *testing.T) {
			config := client.Clone()
			config.MaxVersion = v
			for range 20 {
				s, c := memnet.Pair()
				s.SetReadBuffer(1 << 20)
				done := play(t, c, config, func(c *tls.Conn, nc net.Conn) error {
					if _, err := c.Write(payload); err != nil {
						return err
					}
					return c.Close()
				})
				var got bytes.Buffer
				// It is greeted, too, when nobody is there to hear it.
				err := stage.Serve(t.Context(), s, 1, stage.Chain{into(&got), TLS{Config: server}}.Then(stage.HandlerFunc(func(ctx context.Context, c *stage.Conn) error {
					if err := <-done; err != nil {
						t.Errorf("the client: %v", err)
					}
					io.WriteString(c.Reply, "hello") // is lost, and answered by a reset
					if _, err := io.WriteString(c.Reply, "hello"); !errors.Is(err, syscall.EPIPE) {
						t.Errorf("a write to a client that has gone: %v", err)
					}
					return stage.Receive.Serve(ctx, c)
				})))
				if err != nil || !bytes.Equal(got.Bytes(), payload) {
					t.Errorf("got %d bytes, ended with %v", got.Len(), err)
				}
			}
		})
	}
}

func TestAReset(t *testing.T) {
	server, client := newAuthority(t).configs(t)
	for _, during := range []string{"handshake", "payload"} {
		t.Run(during, func(t *testing.T) {
			s, c := tcp(t)
			done := play(t, c, client, func(c *tls.Conn, nc net.Conn) error {
				if during == "payload" {
					if err := c.Handshake(); err != nil {
						return err
					}
				}
				nc.(*net.TCPConn).SetLinger(0)
				return nc.Close()
			})
			err := stage.Serve(t.Context(), s, 1, stage.Chain{TLS{Config: server}}.Then(stage.Receive))
			if !errors.Is(err, stage.ErrReset) || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("ended with %v", err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// garbage is what is no TLS, or no genuine TLS.
var garbage = map[string][]byte{
	"HTTP":                []byte("GET / HTTP/1.1\r\nHost: server\r\n\r\n"),
	"zeros":               make([]byte, 100),
	"SSLv2":               {0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10},
	"a payload":           {23, 3, 3, 0, 1, 'x'},
	"too large a record":  {22, 3, 1, 0xff, 0xff, 1},
	"too large a message": {22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff},
	"an empty hello":      {22, 3, 1, 0, 4, 1, 0, 0, 0},
	"a fatal alert":       {21, 3, 1, 0, 2, 2, 40},
	"a goodbye":           {21, 3, 1, 0, 2, 1, 0},
}

func TestGarbage(t *testing.T) {
	server, client := newAuthority(t).configs(t)
	for what, b := range garbage {
		for network, open := range networks {
			t.Run(fmt.Sprintf("%s for a hello, over %s", what, network), func(t *testing.T) {
				s, c := open(t)
				called := false
				go c.Write(b)
				err := stage.Serve(t.Context(), s, 1, stage.Chain{TLS{Config: server}}.Then(stage.HandlerFunc(func(context.Context, *stage.Conn) error {
					called = true
					return nil
				})))
				if !errors.Is(err, stage.ErrProtocol) || called {
					t.Errorf("ended with %v (the next handler was called: %t)", err, called)
				}
				c.SetReadDeadline(time.Now().Add(patience))
				if _, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("the client saw it end with %v", err)
				}
			})
			t.Run(fmt.Sprintf("%s in the payload, over %s", what, network), func(t *testing.T) {
				s, c := open(t)
				done := play(t, c, client, func(c *tls.Conn, nc net.Conn) error {
					if _, err := c.Write([]byte("pay")); err != nil {
						return err
					}
					_, err := nc.Write(append(bytes.Clone(b), make([]byte, 1<<15)...))
					return err
				})
				var got bytes.Buffer
				err := stage.Serve(t.Context(), s, 1, stage.Chain{into(&got), TLS{Config: server}}.Then(stage.Receive))
				if !errors.Is(err, stage.ErrProtocol) || got.String() != "pay" {
					t.Errorf("got %q, ended with %v", got.String(), err)
				}
				<-done // who is reset may not have sent all
			})
		}
	}
}

// Who still writes to a client that has sent garbage learns the same.
func TestAnswersToGarbage(t *testing.T) {
	server, client := newAuthority(t).configs(t)
	s, c := memnet.Pair()
	done := play(t, c, client, func(c *tls.Conn, nc net.Conn) error {
		if err := c.Handshake(); err != nil {
			return err
		}
		_, err := nc.Write([]byte{23, 3, 3, 0, 32, 31: 0, 36: 0})
		return err
	})
	err := stage.Serve(t.Context(), s, 1, stage.Chain{TLS{Config: server}}.Then(stage.HandlerFunc(func(_ context.Context, c *stage.Conn) error {
		if _, err := io.ReadAll(c.In); !errors.Is(err, stage.ErrProtocol) {
			t.Errorf("reading: %v", err)
		}
		_, err := io.WriteString(c.Reply, "answer")
		return err
	})))
	if !errors.Is(err, stage.ErrProtocol) {
		t.Errorf("ended with %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A client that has gone when the server refuses it has still sent garbage.
func TestGarbageOfAClientThatHasGone(t *testing.T) {
	server, _ := newAuthority(t).configs(t)
	s, c := memnet.Pair()
	c.Write(garbage["SSLv2"])
	c.Close()
	err := stage.Serve(t.Context(), s, 1, stage.Chain{TLS{Config: server}}.Then(stage.Receive))
	if !errors.Is(err, stage.ErrProtocol) || errors.Is(err, stage.ErrReset) {
		t.Errorf("ended with %v", err)
	}
}

func TestAClientThatDoesNotTrustTheServer(t *testing.T) {
	server, _ := newAuthority(t).configs(t)
	_, client := newAuthority(t).configs(t)
	s, c := tcp(t)
	done := play(t, c, client, func(c *tls.Conn, _ net.Conn) error { return c.Handshake() })
	err := stage.Serve(t.Context(), s, 1, stage.Chain{TLS{Config: server}}.Then(stage.Receive))
	if !errors.Is(err, stage.ErrProtocol) {
		t.Errorf("ended with %v", err)
	}
	if err := <-done; err == nil {
		t.Error("the client trusts it")
	}
}

func TestClientCertificates(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	server, client := a.configs(t)
	server.ClientAuth, server.ClientCAs = tls.RequireAndVerifyClientCert, a.pool
	refuses := server.Clone()
	refuses.VerifyConnection = func(tls.ConnectionState) error { return errors.New("not today") }
	for version, v := range versions {
		for _, tt := range []struct {
			name   string
			server *tls.Config
			certs  []tls.Certificate
			err    error
		}{
			{"of its own authority", server, []tls.Certificate{a.issue(t, "client")}, nil},
			{"of another authority", server, []tls.Certificate{other.issue(t, "client")}, stage.ErrProtocol},
			{"none", server, nil, stage.ErrProtocol},
			{"refused by a function", refuses, []tls.Certificate{a.issue(t, "client")}, stage.ErrProtocol},
		} {
			t.Run(tt.name+" by "+version, func(t *testing.T) {
				config := client.Clone()
				config.MaxVersion = v
				config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					if len(tt.certs) == 0 {
						return new(tls.Certificate), nil
					}
					return &tt.certs[0], nil
				}
				s, c := tcp(t)
				done := play(t, c, config, sends([]byte("payload")))
				called := false
				err := stage.Serve(t.Context(), s, 1, stage.Chain{TLS{Config: tt.server}}.Then(stage.HandlerFunc(func(ctx context.Context, c *stage.Conn) error {
					called = true
					if state, _ := State(c); len(state.PeerCertificates) != 1 || state.PeerCertificates[0].Subject.CommonName != "client" {
						t.Errorf("the client's certificates are %v", state.PeerCertificates)
					}
					return stage.Receive.Serve(ctx, c)
				})))
				if !errors.Is(err, tt.err) || called != (tt.err == nil) {
					t.Errorf("ended with %v (the next handler was called: %t)", err, called)
				}
				if err := <-done; (err == nil) != (tt.err == nil) {
					t.Errorf("the client: %v", err)
				}
			})
		}
	}
}

func TestSessionsAreResumed(t *testing.T) {
	server, client := newAuthority(t).configs(t)
	client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	for version, v := range versions {
		t.Run(version, func(t *testing.T) {
			config := client.Clone()
			config.MaxVersion = v
			for i := range 3 {
				s, c := tcp(t)
				done := play(t, c, config, sends([]byte("payload")))
				err := stage.Serve(t.Context(), s, 1, stage.Chain{TLS{Config: server}}.Then(stage.HandlerFunc(func(ctx context.Context, c *stage.Conn) error {
					if state, _ := State(c); state.DidResume != (i > 0) {
						t.Errorf("connection %d resumes a session: %t", i, state.DidResume)
					}
					return stage.Receive.Serve(ctx, c)
				})))
				if err := errors.Join(err, <-done); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// drips is a connection whose writes come byte by byte, with a pause before each.
type drips struct {
	net.Conn
	pause time.Duration
}

func (d *drips) Write(p []byte) (int, error) {
	for i := range p {
		time.Sleep(d.pause)
		if n, err := d.Conn.Write(p[i : i+1]); err != nil {
			return i + n, err
		}
	}
	return len(p), nil
}

func TestHandshakeLimit(t *testing.T) {
	const limit = 5 * time.Second
	server, client := newAuthority(t).configs(t)
	for _, tt := range []struct {
		name  string
		chain stage.Chain
		act   func(c, s memnet.Conn) error
		err   error
		after time.Duration
	}{
		{"silence", stage.Chain{TLS{server, limit}}, func(c, s memnet.Conn) error { return nil }, stage.ErrSlowHandshake, limit},
		{"a byte now and then", stage.Chain{TLS{server, limit}},
			func(c, s memnet.Conn) error { return tls.Client(&drips{c, time.Second}, client).Handshake() }, stage.ErrSlowHandshake, limit},
		{"a client that takes nothing", stage.Chain{TLS{server, limit}},
			func(c, s memnet.Conn) error {
				c.SetReadBuffer(1)
				return tls.Client(deaf{c}, client).Handshake()
			}, stage.ErrSlowHandshake, limit},
		{"silence, for Idle outside", stage.Chain{stage.Idle{Limit: time.Second}, TLS{server, limit}},
			func(c, s memnet.Conn) error { return nil }, stage.ErrIdle, time.Second},
		{"a byte now and then, for Idle outside", stage.Chain{stage.Idle{Limit: 2 * time.Second}, TLS{server, limit}},
			func(c, s memnet.Conn) error { return tls.Client(&drips{c, time.Second}, client).Handshake() }, stage.ErrSlowHandshake, limit},
		{"a byte now and then, for MaxDuration outside", stage.Chain{stage.MaxDuration{Limit: 3 * time.Second}, TLS{server, limit}},
			func(c, s memnet.Conn) error { return tls.Client(&drips{c, time.Second}, client).Handshake() }, stage.ErrTooLong, 3 * time.Second},
		{"a byte now and then, for MinRate outside", stage.Chain{stage.MinRate{BytesPerSecond: 10, Grace: time.Second}, TLS{server, limit}},
			func(c, s memnet.Conn) error { return tls.Client(&drips{c, time.Second}, client).Handshake() }, stage.ErrTooSlow, time.Second},
		{"a byte now and then, and no limit", stage.Chain{TLS{server, 0}},
			func(c, s memnet.Conn) error {
				d := &drips{c, time.Second}
				tc := tls.Client(d, client)
				err := tc.Handshake()
				d.pause = 0 // a tls.Conn waits for its goodbye for some seconds only
				return errors.Join(err, tc.CloseWrite())
			}, nil, time.Minute},
		{"a pause after the handshake", stage.Chain{TLS{server, limit}},
			func(c, s memnet.Conn) error {
				tc := tls.Client(c, client)
				err := tc.Handshake()
				time.Sleep(time.Hour)
				return errors.Join(err, tc.CloseWrite())
			}, nil, time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, c := memnet.Pair()
				start := time.Now()
				var wg sync.WaitGroup
				wg.Go(func() { tt.act(c, s) })
				err := stage.Serve(t.Context(), s, 1, tt.chain.Then(stage.Receive))
				took := time.Since(start)
				if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
					t.Errorf("ended with %v, want %v", err, tt.err)
				}
				if slack := tt.after + tt.after/10; tt.err != nil && (took < tt.after || took > slack) || took < tt.after {
					t.Errorf("ended after %v, want %v", took, tt.after)
				}
				c.Close()
				wg.Wait()
			})
		})
	}
}

// deaf is a connection that nobody reads from.
type deaf struct{ memnet.Conn }

func (deaf) Read([]byte) (int, error) {
	time.Sleep(time.Hour) // in a bubble
	return 0, net.ErrClosed
}

// halves is a connection whose writes come in two parts, with a pause in between, once
// it has been told to.
type halves struct {
	net.Conn
	pause time.Duration
}

func (h *halves) Write(p []byte) (int, error) {
	if h.pause == 0 || len(p) < 2 {
		return h.Conn.Write(p)
	}
	n, err := h.Conn.Write(p[:len(p)/2])
	if err != nil {
		return n, err
	}
	time.Sleep(h.pause)
	m, err := h.Conn.Write(p[len(p)/2:])
	return n + m, err
}

// Limits are exact on both sides of TLS, and their deadlines that pass while a record has
// half arrived do no harm.
func TestLimitsOnBothSides(t *testing.T) {
	server, client := newAuthority(t).configs(t)
	const limit = 10 * time.Second
	for _, tt := range []struct {
		name  string
		limit stage.Stage
		pause time.Duration // after each of the messages, and again half of it within each
		err   error
		after time.Duration // the last message
	}{
		{"Idle", stage.Idle{Limit: limit}, 6 * time.Second, stage.ErrIdle, limit},
		{"MaxDuration that is not reached", stage.MaxDuration{Limit: time.Hour}, 6 * time.Second, nil, 0},
		{"MinRate", stage.MinRate{BytesPerSecond: 1, Grace: limit}, 6 * time.Second, stage.ErrTooSlow, limit},
		{"all of them", stage.Chain{stage.Idle{Limit: limit}, stage.MaxDuration{Limit: time.Hour}, stage.MinRate{BytesPerSecond: 1, Grace: 2 * limit}}, 6 * time.Second, stage.ErrIdle, limit},
	} {
		for version, v := range versions {
			for side, chain := range map[string]stage.Chain{
				"outside": {tt.limit, TLS{Config: server}},
				"inside":  {TLS{Config: server}, tt.limit},
				"both":    {tt.limit, TLS{Config: server}, tt.limit},
			} {
				t.Run(fmt.Sprintf("%s, %s, by %s", tt.name, side, version), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						config := client.Clone()
						config.MaxVersion = v
						s, c := memnet.Pair()
						h := &halves{Conn: c}
						var want, got bytes.Buffer
						var last time.Time
						var wg sync.WaitGroup
						wg.Go(func() {
							c := tls.Client(h, config)
							if err := c.Handshake(); err != nil {
								t.Error(err)
							}
							h.pause = tt.pause / 2
							for i := range 20 {
								b := randomBytes(100 + i)
								want.Write(b)
								if _, err := c.Write(b); err != nil {
									t.Error(err)
								}
								last = time.Now()
								time.Sleep(tt.pause / 2)
							}
							if tt.err == nil {
								c.CloseWrite()
							}
						})
						err := stage.Serve(t.Context(), s, 1, append(stage.Chain{into(&got)}, chain...).Then(stage.Receive))
						if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
							t.Errorf("ended with %v, want %v", err, tt.err)
						}
						wg.Wait()
						if took := time.Since(last); tt.err != nil && (took < tt.after || took > tt.after+limit/10) {
							t.Errorf("ended %v after the last byte, want %v", took, tt.after)
						}
						if !bytes.Equal(got.Bytes(), want.Bytes()) {
							t.Errorf("got %d bytes, want %d, or others", got.Len(), want.Len())
						}
					})
				})
			}
		}
	}
}

// A deadline inside of TLS passes in the middle of a record, and its owner moves it.
func TestDeadlineWithinARecord(t *testing.T) {
	server, client := newAuthority(t).configs(t)
	synctest.Test(t, func(t *testing.T) {
		s, c := memnet.Pair()
		h := &halves{Conn: strict{c}}
		var wg sync.WaitGroup
		wg.Go(func() {
			c := tls.Client(h, client)
			if err := c.Handshake(); err != nil {
				t.Error(err)
			}
			h.pause = 10 * time.Second
			if _, err := c.Write([]byte("payload")); err != nil {
				t.Error(err)
			}
			h.pause = 0
			if err := sends(nil)(c, h); err != nil {
				t.Error(err)
			}
		})
		err := stage.Serve(t.Context(), s, 1, TLS{Config: server}.Wrap(stage.HandlerFunc(func(ctx context.Context, c *stage.Conn) error {
			passed := 0
			d := c.NewDeadline(func(now time.Time) (time.Time, error) {
				passed++
				return now.Add(time.Second), nil
			})
			d.SetReadDeadline(time.Now().Add(time.Second))
			buf := make([]byte, 100)
			n, err := c.In.Read(buf)
			if string(buf[:n]) != "payload" || err != nil || passed < 9 {
				t.Errorf("got %q, %v after %d deadlines", buf[:n], err, passed)
			}
			d.SetReadDeadline(time.Time{})
			return stage.Receive.Serve(ctx, c)
		})))
		if err != nil {
			t.Errorf("ended with %v", err)
		}
		wg.Wait()
	})
}

func TestShutdown(t *testing.T) {
	server, client := newAuthority(t).configs(t)
	for _, during := range []string{"handshake", "payload"} {
		for network, open := range networks {
			t.Run(during+" over "+network, func(t *testing.T) {
				s, c := open(t)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := play(t, c, client, func(c *tls.Conn, nc net.Conn) error {
					if during == "payload" {
						if _, err := c.Write([]byte("pay")); err != nil {
							return err
						}
					} else if _, err := nc.Write([]byte{22, 3, 1}); err != nil {
						return err
					}
					cancel()
					nc.SetReadDeadline(time.Now().Add(patience))
					_, err := io.Copy(io.Discard, nc)
					return err
				})
				err := stage.Serve(ctx, s, 1, stage.Chain{stage.Idle{Limit: patience}, TLS{server, patience}, stage.Idle{Limit: patience}}.Then(stage.Receive))
				if !errors.Is(err, stage.ErrShutdown) || errors.Is(err, stage.ErrProtocol) {
					t.Errorf("ended with %v", err)
				}
				if err := <-done; !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("the client saw it end with %v", err)
				}
			})
		}
	}
}

// both is a reader that returns its bytes and an error at once.
type both struct {
	b   []byte
	err error
}

func (r *both) Read(p []byte) (int, error) {
	n := copy(p, r.b)
	r.b = r.b[n:]
	return n, r.err
}

func TestWireErrors(t *testing.T) {
	failure := errors.New("x")
	for _, err := range []error{io.EOF, io.ErrUnexpectedEOF, failure, stage.ErrIdle} {
		w := &wire{in: &both{[]byte("abc"), err}}
		buf := make([]byte, 10)
		if n, err := w.Read(buf); n != 3 || err != nil {
			t.Errorf("got %d, %v", n, err)
		}
		for range 2 {
			n, got := w.Read(buf)
			if n != 0 || got == nil || got == io.EOF || got == io.ErrUnexpectedEOF || !isWireError(got) {
				t.Errorf("then %d, %v", n, got)
			}
			if err != io.EOF && !errors.Is(got, err) {
				t.Errorf("%v is no %v", got, err)
			}
		}
	}
}

func TestTLSPanics(t *testing.T) {
	for _, config := range []*tls.Config{nil, {}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			TLS{Config: config}.Wrap(stage.Receive)
		}()
	}
}

// Whatever a client sends in place of a hello, or of a record: it is an error, of one of
// two kinds, and no byte that the client has not encrypted gets through.
func FuzzGarbage(f *testing.F) {
	server, client := newAuthority(f).configs(f)
	server.SessionTicketsDisabled = true
	for _, b := range garbage {
		f.Add(b, false)
		f.Add(b, true)
	}
	f.Fuzz(func(t *testing.T, b []byte, inPayload bool) {
		if inPayload && len(b) == 0 {
			return
		}
		s, c := memnet.Pair()
		var shaken sync.WaitGroup
		shaken.Go(func() {
			if inPayload {
				if _, err := tls.Client(c, client).Write([]byte("pay")); err != nil {
					t.Error(err)
				}
			}
			c.Write(b)
			c.CloseWrite()
		})
		var got bytes.Buffer
		err := stage.Serve(t.Context(), s, 1, stage.Chain{into(&got), TLS{server, patience}}.Then(stage.Receive))
		shaken.Wait()
		if !errors.Is(err, stage.ErrProtocol) && !errors.Is(err, stage.ErrReset) {
			t.Errorf("ended with %v", err)
		}
		want := ""
		if inPayload {
			want = "pay"
		}
		if got.String() != want {
			t.Errorf("got %q", got.String())
		}
	})
}
