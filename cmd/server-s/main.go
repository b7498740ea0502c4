// Command server-s receives streams by the Accio protocol, one connection at a
// time, and prints how many bytes each held:
//
//	server-s PORT
//
// For each connection it prints one line: the number of payload bytes, or ERROR
// if the client was silent for over 10 seconds, did not follow the protocol, or
// was cut off. Other clients wait in the system's queue meanwhile. It runs until
// a SIGINT, SIGTERM or SIGQUIT, and then exits with code 0. Flags set more limits.
package main

import (
	"context"
	"errors"
	"os"

	"github.com/accio-go/accio/cmd/internal/admin"
	"github.com/accio-go/accio/cmd/internal/cli"
	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/transport"
)

type program struct {
	cli.Flags
	cli.Checks
	cli.Limits
	cli.TLS
	cli.Proxies
	cli.Logs
	Port cli.Port `arg:"" name:"PORT" help:"TCP port to listen on, from 1 to 65535."`

	Admin admin.Options `embed:""`
}

var about = cli.Program{
	Name:    "server-s",
	Summary: "Receive streams by the Accio protocol, one at a time, and print the number of bytes of each, or ERROR.",
	Examples: []cli.Item{
		{"$0 5000", "count what is sent to port 5000"},
		{"$0 --idle-timeout=5s --max-size=1GiB 5000", "give up on clients that are silent for five seconds, or send more than 1 GiB"},
	},
	Config:  "port = 5000\nidle-timeout = \"5s\"\nmax-size = \"1GiB\"\n",
	Exits:   cli.ServerExits,
	Signals: cli.ServerSignals,
}

func main() { cli.Main(&program{}, about) }

// Validate is called when the flags are read.
func (p *program) Validate() error {
	if err := p.Admin.ValidateAdmin(p.Port); err != nil {
		return err
	}
	return p.ValidateTLS()
}

// Check says whether Run could begin.
func (p *program) Check(ctx context.Context) error {
	return errors.Join(p.Port.Check(), p.CheckTLS(), p.Admin.Check(ctx))
}

func (p *program) Run(ctx context.Context) error {
	drained, release := p.Drained(ctx)
	defer release()
	var reload cli.Reloader
	reload.OnConfig(p, func() cli.Reconfigurable { return new(program) }, about)
	// With a wrong certificate nobody is to find the port open.
	secure, err := p.TLS.Stage(p.HandshakeTimeout, &reload)
	if err != nil {
		return err
	}
	ln, err := cli.Listen(ctx, p.Port)
	if err != nil {
		return err
	}
	defer ln.Close()
	adminLn, err := p.Admin.Listen(ctx)
	if err != nil {
		return err
	}
	watch := p.Admin.Start(ctx, adminLn, admin.Config{
		Program: about.Name, Version: cli.BuildVersion(), Slots: 1, Limits: admin.Limits(&p.Limits), OnError: cli.ComplainOf("admin error"),
	})
	defer watch.Close()
	chain := stage.Chain{
		p.Logs.Stage(),
		watch.Stage(p.Proxies.Stage(p.IdleTimeout, p.HandshakeTimeout)),
		stage.Report{W: os.Stdout},
		p.Limits.Stages(secure),
	}
	cli.Log().Info("listening", "address", ln.Addr(), "tls", p.TLSCert != "", "limits", &p.Limits, "admin", watch, "proxy_protocol", &p.Proxies)
	srv := transport.Server{Scheduler: transport.Sequential(), Drain: p.Drain, Hurry: drained}
	return cli.Serve(ctx, watch.Listener(ln), srv, chain.Then(stage.Receive), &reload)
}
