// Command server receives streams by the Accio protocol, many at a time, and
// saves each as a file:
//
//	server PORT FILE-DIR
//
// The connections are numbered from 1 in order of acceptance, and connection N
// becomes FILE-DIR/N.file: the whole payload, or ERROR if the client was silent
// for over 10 seconds, did not follow the protocol, or was cut off. A file
// appears under its name whole, and only when it is safe on the disk. It runs
// until a SIGINT, SIGTERM or SIGQUIT, and then exits with code 0. Flags set more
// limits, and have the numbers go on where an earlier run has ended.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/accio-go/accio/cmd/internal/admin"
	"github.com/accio-go/accio/cmd/internal/cli"
	"github.com/accio-go/accio/cmd/internal/hook"
	"github.com/accio-go/accio/fs"
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
	Port    cli.Port `arg:"" name:"PORT" help:"TCP port to listen on, from 1 to 65535."`
	FileDir string   `arg:"" name:"FILE-DIR" path:"dir" help:"Directory to save the files in. It is created if it is missing."`

	Durability fs.Durability `group:"Storage:" enum:"full,file,none" placeholder:"full|file|none" default:"full" help:"What survives a loss of power once a client has its confirmation: the file under its name (full), its content but perhaps not its name (file), or nothing for certain (none). It is ${default} unless it is set."`

	MaxConns      int      `group:"Limits:" placeholder:"N" help:"How many clients are served at a time, if the limit on open files allows as many. Others wait. 0 means as many as that allows (default)."`
	MaxConnsPerIP int      `name:"max-conns-per-ip" group:"Limits:" placeholder:"N" help:"How many of them may come from one IP address. 0 means no limit (default)."`
	MinFree       cli.Size `group:"Storage:" placeholder:"SIZE" help:"What is to be left free on the disk of FILE-DIR, such as 1GiB. 0 means nothing (default)."`
	Continue      bool     `group:"Storage:" help:"Number the files on from the highest N.file that is there, instead of from 1, and replace no file."`

	Hooks  hook.Flags    `embed:""`
	Admin  admin.Options `embed:""`
	Follow bool          `group:"Admin:" help:"Let uploads be read at the admin address while they arrive. They pass through user space then, which costs processor time."`
}

var about = cli.Program{
	Name:    "server",
	Summary: "Receive streams by the Accio protocol, many at a time, and save each as FILE-DIR/N.file: whole, or ERROR.",
	Examples: []cli.Item{
		{"$0 5000 ./save", "save what is sent to port 5000 as save/1.file, save/2.file and so on"},
		{"$0 --max-size=10MiB --min-free=1GiB --drain=1m 5000 ./save", "take no more than 10 MiB of each client, leave 1 GiB free, and let clients finish before a stop"},
		{"$0 --config=accio.toml --check", "say whether a file has all that the program needs"},
	},
	Config:  "port = 5000\nfile-dir = \"/srv/accio\"\nmax-size = \"10MiB\"\nmax-conns = 100\ndrain = \"1m\"\ncontinue = true\n",
	Exits:   cli.ServerExits,
	Signals: cli.ServerSignals,
}

func main() { cli.Main(&program{}, about) }

// Validate is called when the flags are read.
func (p *program) Validate() error {
	if p.Follow && p.Admin.Address == "" {
		return cli.FlagError("follow", errors.New("it needs --admin, where uploads are to be read"))
	}
	if err := p.Admin.ValidateAdmin(p.Port); err != nil {
		return err
	}
	return p.ValidateTLS()
}

// Check says whether Run could begin.
func (p *program) Check(ctx context.Context) error {
	_, err := p.slots()
	errs := []error{p.Port.Check(), p.CheckTLS(), cli.CheckDir(p.FileDir, int64(p.MinFree)), p.Hooks.Check(ctx), p.Admin.Check(ctx), err}
	if _, err := os.Stat(p.FileDir); err == nil {
		_, err := p.numbers()
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Warning says whether fewer clients would be served at a time than somebody may expect.
func (p *program) Warning() error {
	slots, err := p.slots()
	if err != nil {
		return nil // Check says so
	}
	return p.scarce(slots)
}

// A connection that is being saved holds two descriptors: its own and its
// file's.
const descriptorsPerConn = 2

// fewSlots is less than anybody would have set the limit on open files for.
const fewSlots = 10

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
	// What can fail without the directory comes first, so that it is not created in vain.
	adminLn, err := p.Admin.Listen(ctx)
	if err != nil {
		return err
	}
	if adminLn != nil {
		defer adminLn.Close()
	}
	slots, err := p.slots()
	if err != nil {
		return err
	}
	// They end last: that the files are safe comes first.
	hooks, err := p.Hooks.Start(ctx, drained, p.FileDir, cli.UserAgent(about.Name), cli.ComplainOf)
	if err != nil {
		return err
	}
	defer hooks.Close()
	opts := []fs.Option{fs.WithDurability(p.Durability), fs.OnWarning(cli.ComplainOf("storage warning"))}
	if p.Continue {
		opts = append(opts, fs.NoReplace())
	}
	store, err := fs.OpenDir(p.FileDir, opts...)
	if err != nil {
		return fmt.Errorf("cannot save files in %q: %w", p.FileDir, err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			cli.Complain(fmt.Errorf("cannot leave all in %q as it should be: %w", p.FileDir, err))
		}
	}()
	if err := store.Sweep(stage.IsNumberedFile); err != nil {
		cli.ComplainOf("storage warning")(fmt.Errorf("cannot remove all that an earlier run left in %q: %w", p.FileDir, err))
	}
	numbers, err := p.numbers()
	if err != nil {
		return err
	}
	if p.MinFree > 0 {
		if _, err := store.Free(); err != nil {
			return fmt.Errorf("--min-free cannot be kept: %w", err)
		}
	}
	adm := admin.Config{
		Program: about.Name, Version: cli.BuildVersion(),
		Directory: store, MinFree: int64(p.MinFree), Slots: slots, Limits: p.inForce(slots), OnError: cli.ComplainOf("admin error"),
	}
	var sink stage.Store = store
	if p.Follow {
		follower := fs.Follow(store)
		sink = follower
		adm.Follow = func(number uint64) (io.ReadCloser, error) {
			return follower.Open(stage.NumberedFile(&stage.Conn{Number: number}))
		}
	}
	watch := p.Admin.Start(ctx, adminLn, adm)
	defer watch.Close()
	chain := stage.Chain{
		p.Logs.Stage(),
		hooks.Stage(),
		watch.Stage(p.Proxies.Stage(p.IdleTimeout, p.HandshakeTimeout)),
		stage.MaxPerHost{N: p.MaxConnsPerIP},
		stage.Save{Store: sink, Name: stage.NumberedFile, Mark: stage.ErrorMark},
		stage.Count{},
		stage.MinFree{Bytes: int64(p.MinFree), Free: store.Free},
		p.Limits.Stages(secure),
	}
	cli.Log().Info("listening", "address", ln.Addr(), "directory", p.FileDir, "durability", p.Durability, "tls", p.TLSCert != "",
		"limits", &p.Limits, "max_conns", p.MaxConns, "slots", slots, "max_conns_per_ip", p.MaxConnsPerIP, "min_free", int64(p.MinFree),
		"admin", watch, "proxy_protocol", &p.Proxies)
	if err := p.scarce(slots); err != nil {
		cli.Log().Warn("few slots", "slots", slots, "cause", err)
	}
	srv := transport.Server{Scheduler: transport.NewPool(slots), Numbers: numbers, Drain: p.Drain, Hurry: drained}
	return cli.Serve(ctx, watch.Listener(ln), srv, chain.Then(stage.Receive), &reload)
}

// inForce are the limits, to be shown.
func (p *program) inForce(slots int) []admin.Limit {
	return append(admin.Limits(&p.Limits),
		admin.Limit{Name: "max-conns", Value: float64(slots), Unit: admin.Connections},
		admin.Limit{Name: "max-conns-per-ip", Value: float64(p.MaxConnsPerIP), Unit: admin.Connections},
		admin.Limit{Name: "min-free", Value: float64(p.MinFree), Unit: admin.Bytes},
	)
}

// perConn is how many descriptors a client takes.
func (p *program) perConn() int {
	if p.Follow {
		return descriptorsPerConn + 1 // from which those who follow read
	}
	return descriptorsPerConn
}

// adminDescriptors is how many the admin address takes.
func (p *program) adminDescriptors() int {
	if p.Admin.Address == "" {
		return 0
	}
	return admin.Descriptors
}

// slots is how many clients are served at a time: as many as descriptors allow it, or
// the user. 0 is no limit. That something else takes the descriptors of all is an error.
func (p *program) slots() (int, error) {
	perConn := p.perConn()
	n := transport.MaxConns(perConn)
	if reserved := p.Hooks.Descriptors() + p.adminDescriptors(); n > 0 && reserved > 0 {
		if n -= (reserved + perConn - 1) / perConn; n < 1 {
			return 0, fmt.Errorf("no client can be served: %s", p.descriptors())
		}
	}
	if p.MaxConns > 0 && (n == 0 || p.MaxConns < n) {
		n = p.MaxConns
	}
	return n, nil
}

// scarce returns an error that says why, if there are fewer slots than the user has asked
// for, or next to none.
func (p *program) scarce(slots int) error {
	switch {
	case slots == 0:
		return nil
	case slots < p.MaxConns:
		return fmt.Errorf("only %d of --max-conns=%d clients can be served at a time: %s", slots, p.MaxConns, p.descriptors())
	case p.MaxConns == 0 && slots < fewSlots:
		return fmt.Errorf("only %d at a time can be served: %s", slots, p.descriptors())
	}
	return nil
}

// descriptors says who takes the descriptors that there are.
func (p *program) descriptors() string {
	who := fmt.Sprintf("the limit on open files (ulimit -n) leaves %d descriptors, of which a client takes %d", transport.MaxConns(1), p.perConn())
	if n := p.Hooks.Descriptors(); n > 0 {
		who += fmt.Sprintf(", --on-saved-jobs=%d takes %d", p.Hooks.OnSavedJobs, n)
	}
	if n := p.adminDescriptors(); n > 0 {
		who += fmt.Sprintf(", --admin takes %d", n)
	}
	return who
}

// numbers are those of the connections.
func (p *program) numbers() (transport.Numbers, error) {
	if !p.Continue {
		return new(transport.Counter), nil
	}
	last, err := lastNumber(p.FileDir)
	if err != nil {
		return nil, fmt.Errorf("cannot go on from the files in %q: %w", p.FileDir, err)
	}
	if last == math.MaxUint64 {
		return nil, fmt.Errorf("cannot go on from the files in %q: after %d.file there is no number left", p.FileDir, last)
	}
	return transport.NewCounter(last), nil
}

// lastNumber is the highest N of what is in dir as N.file, or 0.
func lastNumber(dir string) (last uint64, err error) {
	f, err := os.Open(dir)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for {
		names, err := f.Readdirnames(1000)
		for _, name := range names {
			if n, frame, _ := stage.ParseNumberedFile(name); frame == 0 {
				last = max(last, n)
			}
		}
		if err == io.EOF {
			return last, nil
		}
		if err != nil {
			return 0, err
		}
	}
}
