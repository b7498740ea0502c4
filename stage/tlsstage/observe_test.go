package tlsstage_test

import (
	"context"
	"crypto/tls"
	"sync"
	"testing"

	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/stage/tlsstage"
)

// shaken counts handshakes.
type shaken struct {
	n int
}

func (s *shaken) HandshakeDone() { s.n++ }
func (*shaken) Passed(int)       {}
func (*shaken) Received()        {}
func (*shaken) Ended(error)      {}

// That of TLS is none that an Observer is told of, unless a stage inside takes it for the
// protocol's.
func TestAnObserverIsToldOfTheHandshakeInside(t *testing.T) {
	cert, roots := pair()
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
			server, client := connect()
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := send(client, roots, "hello"); err != nil {
					t.Error(err)
				}
			})
			seen := new(shaken)
			h := stage.Chain{
				stage.Observe{Accepted: func(*stage.Conn) stage.Observer { return seen }},
				tlsstage.TLS{Config: &tls.Config{Certificates: []tls.Certificate{cert}}},
				tt.inside,
			}.Then(stage.Receive)
			if err := stage.Serve(t.Context(), server, 1, h); err != nil {
				t.Error(err)
			}
			wg.Wait()
			if seen.n != tt.want {
				t.Errorf("%d handshakes were told of, want %d", seen.n, tt.want)
			}
		})
	}
}
