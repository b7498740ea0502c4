package proxyproto_test

import (
	"context"
	"net/netip"
	"testing"

	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/stage/proxyproto"
)

// shaken counts handshakes.
type shaken struct {
	n int
}

func (s *shaken) HandshakeDone() { s.n++ }
func (*shaken) Passed(int)       {}
func (*shaken) Received()        {}
func (*shaken) Ended(error)      {}

// A header is no handshake that an Observer is told of, unless a stage inside takes it for
// one.
func TestAnObserverIsToldOfTheHandshakeInside(t *testing.T) {
	for name, tt := range map[string]struct {
		inside stage.Stage
		want   int
	}{
		"none": {stage.Chain{}, 0},
		"a stage that says so": {stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
			c.HandshakeDone()
			return nil, nil
		}), 1},
		"the protocol's": {stage.Handshake{Script: stage.Script{Steps: []stage.Step{{Expect: "hello"}}}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			seen := new(shaken)
			h := stage.Chain{
				stage.Observe{Accepted: func(*stage.Conn) stage.Observer { return seen }},
				proxyproto.Proxy{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
				tt.inside,
			}.Then(stage.Receive)
			if err := stage.Serve(t.Context(), connect("PROXY TCP4 192.0.2.1 192.0.2.99 12345 443\r\nhello"), 1, h); err != nil {
				t.Error(err)
			}
			if seen.n != tt.want {
				t.Errorf("%d handshakes were told of, want %d", seen.n, tt.want)
			}
		})
	}
}
