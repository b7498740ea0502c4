// Command server receives streams by the Accio protocol, many at a time, and
// saves each as a file:
//
//	server PORT FILE-DIR
//
// The connections are numbered from 1 in order of acceptance, and connection N
// becomes FILE-DIR/N.file: the whole payload, or ERROR. The file is ERROR if the
// client was silent for over 10 seconds, did not follow the protocol, or was cut
// off. A file appears under its name complete, and only when it is safe on the
// disk. The server runs until SIGINT, SIGTERM or SIGQUIT, and then exits with code
// 0. Flags set more limits, and can continue the numbers of an earlier run.
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
	"github.com/accio-go/accio/cmd/internal/serve"
	"github.com/accio-go/accio/fs"
	"github.com/accio-go/accio/fs/follow"
	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/transport"
)

type program struct {
	serve.Server
	FileDir       string
	Durability    fs.Durability
	MaxConns      int
	MaxConnsPerIP int
	MinFree       cli.Size
	Continue      bool
	Hooks         hook.Options
	Follow        bool
}

// Flags adds the flags.
func (p *program) Flags(f *cli.FlagSet) {
	p.Server.Flags(f)
	f.Argument(cli.Dir(&p.FileDir), "FILE-DIR", "Directory for the files. The server creates it if it is missing.")
	g := f.Group("Limits")
	g.Add(cli.Int(&p.MaxConns, 0, 0, math.MaxInt32), "max-conns", "", "Serve at most `N` clients at a time. Others wait. 0 means as many as the limit on open files allows (default).")
	g.Add(cli.Int(&p.MaxConnsPerIP, 0, 0, math.MaxInt32), "max-conns-per-ip", "", "Serve at most `N` clients from one IP address at a time. 0 means no limit (default).")
	g = f.Group("Storage")
	p.Durability = fs.Full
	g.Add(cli.Enum((*string)(&p.Durability), "full", "file", "none"), "durability", "", "Choose the `LEVEL` of safety against a loss of power once a client has its confirmation: full (the file under its name), file (its content, but perhaps not its name) or none.")
	g.Add(cli.Text(&p.MinFree), "min-free", "", "Leave `SIZE`, such as 1GiB, free on the disk of FILE-DIR. 0 means nothing (default).")
	g.Add(cli.Bool(&p.Continue), "continue", "", "Continue the numbers after the highest N.file, instead of from 1, and replace no file.")
	p.Hooks.Flags(f)
	f.Group("Admin").Add(cli.Bool(&p.Follow), "follow", "", "Serve uploads at the admin address while they arrive. They then pass through user space, which costs processor time.")
}

var about = cli.Program{
	Name:    "server",
	Summary: "Receive streams by the Accio protocol, many at a time, and save each as FILE-DIR/N.file: whole, or ERROR.",
	Examples: []cli.Item{
		{"$0 5000 ./save", "save streams to port 5000 as save/1.file, save/2.file and so on"},
		{"$0 --max-size=10MiB --min-free=1GiB --drain=1m 5000 ./save", "limit each client to 10 MiB, leave 1 GiB free, and let clients finish before a stop"},
		{"$0 --config=accio.toml --check", "check a configuration file"},
	},
	Config:  "port = 5000\nfile-dir = \"/srv/accio\"\nmax-size = \"10MiB\"\nmax-conns = 100\ndrain = \"1m\"\ncontinue = true\n",
	Exits:   cli.ServerExits,
	Signals: cli.ServerSignals,
}

func main() { cli.Main(new(program), about) }

// Validate returns an error if the flags do not fit together.
func (p *program) Validate() error {
	if p.Follow && p.Admin.Address == "" {
		return cli.FlagError("follow", errors.New("it needs --admin"))
	}
	return p.Server.Validate()
}

// Check returns the reasons why Run would fail.
func (p *program) Check(ctx context.Context) error {
	_, err := p.slots()
	errs := []error{p.Server.Check(ctx), serve.CheckDir(p.FileDir, int64(p.MinFree)), p.Hooks.Check(ctx), err}
	if _, err := os.Stat(p.FileDir); err == nil {
		_, err := p.numbers()
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Warning returns an error if the server has fewer slots than the user may expect.
func (p *program) Warning() error {
	slots, err := p.slots()
	if err != nil {
		return nil // Check returns it
	}
	return p.scarce(slots)
}

func (p *program) Run(ctx context.Context) error {
	run, err := p.Start(ctx, about.Name, func() cli.Command { return new(program) })
	if err != nil {
		return err
	}
	defer run.Close()
	// A start that fails must not create the directory, so the rest comes first.
	slots, err := p.slots()
	if err != nil {
		return err
	}
	// Hooks close last, after the files are safe.
	hooks, err := p.Hooks.Start(ctx, run.Drained, p.FileDir, cli.UserAgent(about.Name), cli.ComplainOf)
	if err != nil {
		return err
	}
	defer hooks.Close()
	store, err := p.open()
	if err != nil {
		return err
	}
	defer func() {
		if err := store.Close(); err != nil {
			cli.Complain(fmt.Errorf("cannot finish the files in %q: %w", p.FileDir, err))
		}
	}()
	numbers, err := p.numbers()
	if err != nil {
		return err
	}
	sink, follow := p.follow(store)
	watch := run.StartAdmin(admin.Config{Directory: store, MinFree: int64(p.MinFree), Slots: slots, Limits: p.inForce(slots), Follow: follow})
	defer watch.Close()
	if err := p.scarce(slots); err != nil {
		cli.Log().Warn("few slots", "slots", slots, "cause", err)
	}
	chain := stage.Chain{
		hooks.Stage(),
		run.Observe(),
		stage.MaxPerHost{N: p.MaxConnsPerIP},
		stage.Save{Store: sink, Name: stage.NumberedFile, Mark: stage.ErrorMark},
		stage.Count{},
		stage.MinFree{Bytes: int64(p.MinFree), Free: store.Free},
		run.Protocol(),
	}
	return run.Serve(transport.Server{Scheduler: transport.NewPool(slots), Numbers: numbers}, chain,
		"directory", p.FileDir, "durability", p.Durability, "max_conns", p.MaxConns, "slots", slots,
		"max_conns_per_ip", p.MaxConnsPerIP, "min_free", int64(p.MinFree))
}

// open opens the directory, and removes the temporary files of an earlier run.
func (p *program) open() (*fs.Store, error) {
	warn := cli.ComplainOf("storage warning")
	opts := []fs.Option{fs.WithDurability(p.Durability), fs.OnWarning(warn)}
	if p.Continue {
		opts = append(opts, fs.NoReplace())
	}
	store, err := fs.OpenDir(p.FileDir, opts...)
	if err != nil {
		return nil, fmt.Errorf("cannot save files in %q: %w", p.FileDir, err)
	}
	if err := store.Sweep(stage.IsNumberedFile); err != nil {
		warn(fmt.Errorf("cannot remove all temporary files of an earlier run in %q: %w", p.FileDir, err))
	}
	if _, err := store.Free(); p.MinFree > 0 && err != nil {
		store.Close()
		return nil, fmt.Errorf("cannot keep --min-free: %w", err)
	}
	return store, nil
}

// follow returns the store that the chain saves to. With --follow it also returns a
// function that reads a file while it arrives.
func (p *program) follow(store *fs.Store) (stage.Store, func(uint64) (io.ReadCloser, error)) {
	if !p.Follow {
		return store, nil
	}
	followed := &follow.Store{Store: store}
	return followed, func(number uint64) (io.ReadCloser, error) {
		return followed.Open(stage.NumberedFile(&stage.Conn{Number: number}))
	}
}

// inForce returns the limits that only this server has, for the admin address.
func (p *program) inForce(slots int) []admin.Limit {
	return []admin.Limit{
		{Name: "max-conns", Value: float64(slots), Unit: admin.Connections},
		{Name: "max-conns-per-ip", Value: float64(p.MaxConnsPerIP), Unit: admin.Connections},
		{Name: "min-free", Value: float64(p.MinFree), Unit: admin.Bytes},
	}
}

// fewSlots is the number of slots below which the limit on open files is probably a
// mistake.
const fewSlots = 10

// perConn returns the number of descriptors of a client: its connection, its file,
// and the file for readers of --follow.
func (p *program) perConn() int {
	if p.Follow {
		return 3
	}
	return 2
}

// adminDescriptors returns the number of descriptors that the admin address takes.
func (p *program) adminDescriptors() int {
	if p.Admin.Address == "" {
		return 0
	}
	return admin.Descriptors
}

// slots returns the limit of clients at a time, from --max-conns and the limit on open
// files. 0 means no limit. It returns an error if no descriptors are left for clients.
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

// scarce returns an error if the limit on open files allows fewer slots than
// --max-conns, or very few.
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

// descriptors describes the use of the descriptors.
func (p *program) descriptors() string {
	use := fmt.Sprintf("the limit on open files (ulimit -n) leaves %d descriptors, and a client takes %d", transport.MaxConns(1), p.perConn())
	if n := p.Hooks.Descriptors(); n > 0 {
		use += fmt.Sprintf(", --on-saved-jobs=%d takes %d", p.Hooks.OnSavedJobs, n)
	}
	if n := p.adminDescriptors(); n > 0 {
		use += fmt.Sprintf(", --admin takes %d", n)
	}
	return use
}

// numbers returns the source of connection numbers.
func (p *program) numbers() (transport.Numbers, error) {
	if !p.Continue {
		return transport.NewCounter(0), nil
	}
	last, err := lastNumber(p.FileDir)
	if err != nil {
		return nil, fmt.Errorf("cannot continue after the files in %q: %w", p.FileDir, err)
	}
	if last == math.MaxUint64 {
		return nil, fmt.Errorf("cannot continue after the files in %q: no number is left after %d.file", p.FileDir, last)
	}
	return transport.NewCounter(last), nil
}

// lastNumber returns the highest N for which dir holds N.file, or 0.
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
