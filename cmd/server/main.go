// Command server receives streams by the Accio protocol, many at a time, and
// saves each as a file:
//
//	server PORT FILE-DIR
//
// The connections are numbered from 1 in order of acceptance, and connection N
// becomes FILE-DIR/N.file: the whole payload, or ERROR if the client was silent
// for over 10 seconds, did not follow the protocol, or was cut off. A file
// appears under its name whole, and only when it is safe on the disk. It runs
// until a SIGINT, SIGTERM or SIGQUIT, and then exits with code 0.
package main

import (
	"context"
	"fmt"

	"github.com/accio-go/accio/cmd/internal/cli"
	"github.com/accio-go/accio/fs"
	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/transport"
)

type program struct {
	cli.Flags
	Port    cli.Port `arg:"" name:"PORT" help:"TCP port to listen on, from 1 to 65535."`
	FileDir string   `arg:"" name:"FILE-DIR" help:"Directory to save the files in. It is created if it is missing."`
}

func main() {
	cli.Main(&program{}, "server", "Receive streams by the Accio protocol, many at a time, and save each as FILE-DIR/N.file: whole, or ERROR.")
}

// A connection that is being saved holds two descriptors: its own and its
// file's.
const descriptorsPerConn = 2

func (p *program) Run(ctx context.Context) error {
	cli.EndInTime(ctx, nil)
	ln, err := transport.Listen(ctx, uint16(p.Port))
	if err != nil {
		return err
	}
	defer ln.Close()
	store, err := fs.OpenDir(p.FileDir)
	if err != nil {
		return fmt.Errorf("cannot save files in %q: %w", p.FileDir, err)
	}
	defer store.Close()
	if err := store.Sweep(stage.IsNumberedFile); err != nil {
		cli.Complain(fmt.Errorf("cannot remove all that an earlier run left in %q: %w", p.FileDir, err))
	}
	chain := stage.Chain{
		stage.Save{Store: store, Name: stage.NumberedFile, Mark: stage.ErrorMark},
		stage.Count{},
		stage.Idle{Limit: cli.Silence},
		stage.Handshake{Script: stage.Accio},
	}
	pool := transport.NewPool(transport.MaxConns(descriptorsPerConn))
	return cli.Serve(ctx, ln, pool, chain.Then(stage.Receive))
}
