// Command server-s receives streams by the Accio protocol, one connection at a
// time, and prints how many bytes each held:
//
//	server-s PORT
//
// For each connection it prints one line: the number of payload bytes, or ERROR. It
// prints ERROR if the client was silent for over 10 seconds, did not follow the
// protocol, or was cut off. Other clients wait in the listen backlog meanwhile. The
// server runs until SIGINT, SIGTERM or SIGQUIT, and then exits with code 0. Flags set
// more limits.
package main

import (
	"context"
	"os"

	"github.com/accio-go/accio/cmd/internal/admin"
	"github.com/accio-go/accio/cmd/internal/cli"
	"github.com/accio-go/accio/cmd/internal/serve"
	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/transport"
)

type program struct{ serve.Server }

var about = cli.Program{
	Name:    "server-s",
	Summary: "Receive streams by the Accio protocol, one at a time, and print the number of bytes of each, or ERROR.",
	Examples: []cli.Item{
		{"$0 5000", "count the bytes of streams to port 5000"},
		{"$0 --idle-timeout=5s --max-size=1GiB 5000", "give up on clients that are silent for five seconds, or send more than 1 GiB"},
	},
	Config:  "port = 5000\nidle-timeout = \"5s\"\nmax-size = \"1GiB\"\n",
	Exits:   cli.ServerExits,
	Signals: cli.ServerSignals,
}

func main() { cli.Main(new(program), about) }

func (p *program) Run(ctx context.Context) error {
	run, err := p.Start(ctx, about.Name, func() cli.Command { return new(program) })
	if err != nil {
		return err
	}
	defer run.Close()
	watch := run.StartAdmin(admin.Config{Slots: 1})
	defer watch.Close()
	chain := stage.Chain{
		run.Observe(),
		stage.Report{W: os.Stdout},
		run.Protocol(),
	}
	return run.Serve(transport.Server{Scheduler: transport.Sequential()}, chain)
}
