// Command client sends a file by the Accio protocol:
//
//	client HOST PORT FILE
//
// FILE may be - for standard input. The client exits with code 0 only if the server
// has confirmed the file: it closed in an orderly way after everything was sent.
// Otherwise one line on standard error names the error, its place and a remedy. The
// exit code tells the kind (see --help).
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/accio-go/accio/cmd/internal/cli"
	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/stage/send"
)

type program struct {
	secure
	Host host
	Port port
	File string

	Quiet           bool
	ConnectTimeout  time.Duration
	GreetingTimeout time.Duration
	StallTimeout    time.Duration
	ConfirmTimeout  time.Duration
}

// Flags adds the flags.
func (p *program) Flags(f *cli.FlagSet) {
	f.Argument(cli.Text(&p.Host), "HOST", "Name or address of the server.")
	f.Argument(cli.Text(&p.Port), "PORT", "TCP port, or the name of a service.")
	f.Argument(cli.File(&p.File), "FILE", "File to send, or - for standard input.")
	f.Group("Flags").Add(cli.Bool(&p.Quiet), "quiet", "q", "Show no progress.")
	p.secure.Flags(f)
	g := f.Group("Time-outs")
	g.Add(cli.Duration(&p.ConnectTimeout, 10*time.Second, 1), "connect-timeout", "", "Connect within `TIME`.")
	g.Add(cli.Duration(&p.GreetingTimeout, 10*time.Second, 1), "greeting-timeout", "", "Wait `TIME` for each message of the server's handshake.")
	g.Add(cli.Duration(&p.StallTimeout, 10*time.Second, 1), "stall-timeout", "", "Wait `TIME` for the server to take more data.")
	g.Add(cli.Duration(&p.ConfirmTimeout, 10*time.Second, 1), "confirm-timeout", "", "Wait `TIME` for the confirmation after everything is sent. A very large file can take longer.")
}

// Exit codes besides those of package cli.
const (
	exitSource  = 3
	exitConnect = 4
	exitServer  = 5
	exitBroken  = 6
	exitConfirm = 7
)

var exits = []cli.Item{
	{"0", "sent and confirmed"},
	{"1", "stopped"},
	{"2", "wrong arguments"},
	{"3", "the file cannot be read"},
	{"4", "no connection, or a certificate is not trusted"},
	{"5", "the server does not speak the protocol, or gave up"},
	{"6", "the connection broke or stalled"},
	{"7", "everything was sent, but not confirmed"},
}

func main() {
	cli.Main(new(program), cli.Program{
		Name:    "client",
		Summary: "Send a file by the Accio protocol.",
		Examples: []cli.Item{
			{"$0 localhost 5000 README.md", "send a file"},
			{"tar c dir | $0 --confirm-timeout=1m example.org 5000 -", "send the output of another program, and wait up to a minute for the confirmation"},
		},
		Config:  "quiet = true\nconnect-timeout = \"3s\"\n",
		Exits:   exits,
		Signals: []cli.Item{{"SIGINT, SIGTERM, SIGQUIT", "stop the program within a second; the server discards an incomplete file"}},
	})
}

func (p *program) Run(ctx context.Context) error {
	cli.EndInTime(ctx, fmt.Errorf("%s: stopped while sending %s; nothing was confirmed", p.address(), p.File))
	file, size, err := open(p.File)
	if err != nil {
		return cli.Exit(exitSource, fmt.Errorf("nothing was sent: %w", err))
	}
	defer file.Close()

	config, err := p.config(string(p.Host))
	if err != nil {
		return cli.Exit(cli.ExitUsage, fmt.Errorf("nothing was sent: %w", err))
	}
	conn, err := p.dial(ctx)
	if err != nil {
		return err
	}
	server := p.server(conn)
	if conn, err = p.encrypt(ctx, conn, config); err != nil {
		return err
	}
	sender := send.Sender{
		Script:   stage.Accio.Mirror(),
		Greeting: p.GreetingTimeout,
		Stall:    p.StallTimeout,
		Confirm:  p.ConfirmTimeout,
		Sent:     new(stage.Counter),
	}
	finish := func() {}
	if !p.Quiet {
		finish = showProgress(os.Stderr, sender.Sent, size)
	}
	_, err = sender.Send(ctx, conn, file)
	finish()
	return p.explain(err, server)
}

// open opens the file, and returns its size: -1 if it is unknown.
func open(name string) (file *os.File, size int64, err error) {
	if name == "-" {
		file = stdin()
	} else if file, err = os.Open(name); err != nil {
		return nil, 0, err
	}
	fi, err := file.Stat()
	switch {
	case err != nil:
		return nil, 0, err
	case fi.IsDir():
		return nil, 0, &os.PathError{Op: "read", Path: name, Err: syscall.EISDIR}
	case fi.Mode().IsRegular():
		return file, fi.Size(), nil
	}
	return file, -1, nil
}

// stdin returns standard input. A pipe or a terminal is opened again with O_NONBLOCK, so
// that a read can be interrupted: all descriptors of one open(2) share that flag, and
// the user's shell has one of them.
func stdin() *os.File {
	fi, err := os.Stdin.Stat()
	if err == nil && fi.Mode()&(os.ModeNamedPipe|os.ModeCharDevice) != 0 {
		if file, err := os.OpenFile("/proc/self/fd/0", os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0); err == nil {
			return file
		}
	}
	return os.Stdin
}

// explain adds the state of the upload and a hint for the user.
func (p *program) explain(err error, server string) error {
	var failed *send.Error
	if !errors.As(err, &failed) {
		return err
	}
	file := p.File
	sent := fmt.Sprintf("after %d bytes of %s were sent", failed.Sent, file)
	switch {
	case errors.Is(err, stage.ErrShutdown) && failed.Step == send.Confirm:
		return fmt.Errorf("%s: stopped when all %d bytes of %s were sent, but nothing was confirmed", server, failed.Sent, file)
	case errors.Is(err, stage.ErrShutdown):
		return fmt.Errorf("%s: stopped %s; the server will not keep them", server, sent)
	case errors.Is(err, send.ErrSource):
		return cli.Exit(exitSource, fmt.Errorf("%s: %w, %s; the server will not keep them", server, failed.Err, sent))
	case failed.Step == send.Handshake && errors.Is(err, errTLS):
		return cli.Exit(exitConnect, fmt.Errorf("%s: in the handshake: %w; does the server want another certificate (--tls-cert)?", server, failed.Err))
	case failed.Step == send.Handshake && errors.Is(err, stage.ErrReset):
		return cli.Exit(exitBroken, fmt.Errorf("%s: in the handshake: %w; try again", server, failed.Err))
	case failed.Step == send.Handshake && !p.TLS && (errors.Is(err, stage.ErrIdle) || errors.Is(err, send.ErrGone)):
		// A server that speaks TLS waits for the client, and may give up first.
		return cli.Exit(exitServer, fmt.Errorf("%s: in the handshake: %w; is it an Accio server, with a place free, and does it want TLS (--tls)?", server, failed.Err))
	case failed.Step == send.Handshake:
		return cli.Exit(exitServer, fmt.Errorf("%s: in the handshake: %w; is it an Accio server, with a place free?", server, failed.Err))
	case failed.Step == send.Confirm && errors.Is(err, stage.ErrIdle):
		return cli.Exit(exitConfirm, fmt.Errorf("%s: all %d bytes of %s were sent, but nothing was confirmed: %w; a large file may need a longer --confirm-timeout", server, failed.Sent, file, failed.Err))
	case failed.Step == send.Confirm && errors.Is(err, stage.ErrProtocol):
		return cli.Exit(exitConfirm, fmt.Errorf("%s: all %d bytes of %s were sent, but nothing was confirmed: %w; is it an Accio server?", server, failed.Sent, file, failed.Err))
	case failed.Step == send.Confirm:
		return cli.Exit(exitConfirm, fmt.Errorf("%s: all %d bytes of %s were sent, but the server did not keep them: %w; its log may say why", server, failed.Sent, file, failed.Err))
	case errors.Is(err, stage.ErrProtocol):
		return cli.Exit(exitServer, fmt.Errorf("%s: %w, %s; is it an Accio server?", server, failed.Err, sent))
	case errors.Is(err, send.ErrGone):
		return cli.Exit(exitServer, fmt.Errorf("%s: %w, %s; was it stopped, or kept waiting for over 10 seconds?", server, failed.Err, sent))
	default:
		return cli.Exit(exitBroken, fmt.Errorf("%s: %w, %s; try again", server, failed.Err, sent))
	}
}
