// Command server-s receives streams by the Accio protocol, one connection at a
// time, and prints how many bytes each held:
//
//	server-s PORT
//
// For each connection it prints one line: the number of payload bytes, or ERROR
// if the client was silent for over 10 seconds, did not follow the protocol, or
// was cut off. Other clients wait in the system's queue meanwhile. It runs until
// a SIGINT, SIGTERM or SIGQUIT, and then exits with code 0.
package main

import (
	"context"
	"os"

	"github.com/accio-go/accio/cmd/internal/cli"
	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/transport"
)

type program struct {
	cli.Flags
	Port cli.Port `arg:"" name:"PORT" help:"TCP port to listen on, from 1 to 65535."`
}

func main() {
	cli.Main(&program{}, "server-s", "Receive streams by the Accio protocol, one at a time, and print the number of bytes of each, or ERROR.")
}

func (p *program) Run(ctx context.Context) error {
	cli.EndInTime(ctx, nil)
	ln, err := transport.Listen(ctx, uint16(p.Port))
	if err != nil {
		return err
	}
	chain := stage.Chain{
		stage.Report{W: os.Stdout},
		stage.Idle{Limit: cli.Silence},
		stage.Handshake{Script: stage.Accio},
	}
	return cli.Serve(ctx, ln, transport.Sequential(), chain.Then(stage.Receive))
}
