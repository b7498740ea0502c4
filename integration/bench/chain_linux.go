package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/accio-go/accio/fs"
	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/transport"
)

// through is a stage that has a look at what passes, in both directions, and
// does nothing.
type through struct{}

func (through) Wrap(next stage.Handler) stage.Handler {
	return stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
		c.In = stage.NewReader(c.In, new(stage.Counter))
		c.Out = stage.NewWriter(c.Out, new(stage.Counter))
		return nil, nil
	}).Wrap(next)
}

// chainServer is the server's chain, with so many stages more, and a long time
// for silence.
func chainServer(more int) func(port int, dir string) error {
	return func(port int, dir string) error {
		ctx := context.Background()
		store, err := fs.OpenDir(dir)
		if err != nil {
			return err
		}
		chain := stage.Chain{
			stage.Save{Store: store, Name: stage.NumberedFile, Mark: stage.ErrorMark},
			stage.Count{},
			stage.Idle{Limit: time.Hour},
			stage.Handshake{Script: stage.Accio},
		}
		for range more {
			chain = append(chain, through{})
		}
		h := chain.Then(stage.Receive)
		ln, err := net.Listen("tcp4", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		srv := transport.Server{Handler: stage.ServeFunc(h)}
		return srv.Serve(ctx, ln)
	}
}
