// Command client sends a file by the Accio protocol:
//
//	client HOST PORT FILE
//
// FILE may be - for standard input. It exits with code 0 only if the server has
// confirmed: it closed in an orderly way after everything was sent. Otherwise one
// line on standard error says what went wrong, where, and what to do, and the
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
)

type program struct {
	cli.Flags
	secure
	Host host   `arg:"" name:"HOST" help:"Name or address of the server."`
	Port port   `arg:"" name:"PORT" help:"TCP port, or the name of a service."`
	File string `arg:"" name:"FILE" path:"file" help:"File to send, or - for standard input."`

	Quiet           bool          `short:"q" help:"Show no progress."`
	ConnectTimeout  time.Duration `group:"Time-outs:" placeholder:"TIME" default:"10s" positive:"" help:"How long to try to connect (default ${default})."`
	GreetingTimeout time.Duration `group:"Time-outs:" placeholder:"TIME" default:"10s" positive:"" help:"How long to wait for each word of the server's handshake (default ${default})."`
	StallTimeout    time.Duration `group:"Time-outs:" placeholder:"TIME" default:"10s" positive:"" help:"How long the server may take no more data (default ${default})."`
	ConfirmTimeout  time.Duration `group:"Time-outs:" placeholder:"TIME" default:"10s" positive:"" help:"How long to wait for the server to confirm, once everything is sent (default ${default}). To make a very large file durable can take longer."`
}

// Exit codes, beside 0, that of a failure without one of its own, and that of
// wrong arguments.
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
	cli.Main(&program{}, cli.Program{
		Name:    "client",
		Summary: "Send a file by the Accio protocol.",
		Examples: []cli.Item{
			{"$0 localhost 5000 README.md", "send a file"},
			{"tar c dir | $0 --confirm-timeout=1m example.org 5000 -", "send what another program writes, and wait up to a minute for the server to have it safe"},
		},
		Config:  "quiet = true\nconnect-timeout = \"3s\"\n",
		Exits:   exits,
		Signals: []cli.Item{{"SIGINT, SIGTERM, SIGQUIT", "stop the program, within a second; the server does not keep what it has, unless it has everything"}},
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
	sender := stage.Sender{
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

// open opens what is to be sent, and says how large it is: -1 if nobody knows.
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

// stdin is standard input, opened once more if it has to be waited for: as a
// pipe or a terminal from which a read can be given up. That takes O_NONBLOCK,
// which all who have a file open by the same open(2) share, the user's shell
// among them. Where there is no such way to open it, it stays what it is.
func stdin() *os.File {
	fi, err := os.Stdin.Stat()
	if err == nil && fi.Mode()&(os.ModeNamedPipe|os.ModeCharDevice) != 0 {
		if file, err := os.OpenFile("/proc/self/fd/0", os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0); err == nil {
			return file
		}
	}
	return os.Stdin
}

// explain says what became of the upload, and what the user can do.
func (p *program) explain(err error, server string) error {
	var failed *stage.SendError
	if !errors.As(err, &failed) {
		return err
	}
	file := p.File
	sent := fmt.Sprintf("after %d bytes of %s were sent", failed.Sent, file)
	switch {
	case errors.Is(err, stage.ErrShutdown) && failed.Step == stage.StepConfirm:
		return fmt.Errorf("%s: stopped when all %d bytes of %s were sent, but nothing was confirmed", server, failed.Sent, file)
	case errors.Is(err, stage.ErrShutdown):
		return fmt.Errorf("%s: stopped %s; the server will not keep them", server, sent)
	case errors.Is(err, stage.ErrSource):
		return cli.Exit(exitSource, fmt.Errorf("%s: %w, %s; the server will not keep them", server, failed.Err, sent))
	case failed.Step == stage.StepHandshake && errors.Is(err, errTLS):
		return cli.Exit(exitConnect, fmt.Errorf("%s: in the handshake: %w; does the server want another certificate (--tls-cert)?", server, failed.Err))
	case failed.Step == stage.StepHandshake && errors.Is(err, stage.ErrReset):
		return cli.Exit(exitBroken, fmt.Errorf("%s: in the handshake: %w; try again", server, failed.Err))
	case failed.Step == stage.StepHandshake && !p.TLS && (errors.Is(err, stage.ErrIdle) || errors.Is(err, stage.ErrGone)):
		// A server that speaks TLS waits for the client's first word, and may give up first.
		return cli.Exit(exitServer, fmt.Errorf("%s: in the handshake: %w; is it an Accio server, with a place free, and does it want TLS (--tls)?", server, failed.Err))
	case failed.Step == stage.StepHandshake:
		return cli.Exit(exitServer, fmt.Errorf("%s: in the handshake: %w; is it an Accio server, with a place free?", server, failed.Err))
	case failed.Step == stage.StepConfirm && errors.Is(err, stage.ErrIdle):
		return cli.Exit(exitConfirm, fmt.Errorf("%s: all %d bytes of %s were sent, but nothing was confirmed: %w; a large file may need a longer --confirm-timeout", server, failed.Sent, file, failed.Err))
	case failed.Step == stage.StepConfirm && errors.Is(err, stage.ErrProtocol):
		return cli.Exit(exitConfirm, fmt.Errorf("%s: all %d bytes of %s were sent, but nothing was confirmed: %w; is it an Accio server?", server, failed.Sent, file, failed.Err))
	case failed.Step == stage.StepConfirm:
		return cli.Exit(exitConfirm, fmt.Errorf("%s: all %d bytes of %s were sent, but the server did not keep them: %w; its log may say why", server, failed.Sent, file, failed.Err))
	case errors.Is(err, stage.ErrProtocol):
		return cli.Exit(exitServer, fmt.Errorf("%s: %w, %s; is it an Accio server?", server, failed.Err, sent))
	case errors.Is(err, stage.ErrGone):
		return cli.Exit(exitServer, fmt.Errorf("%s: %w, %s; was it stopped, or kept waiting for over 10 seconds?", server, failed.Err, sent))
	default:
		return cli.Exit(exitBroken, fmt.Errorf("%s: %w, %s; try again", server, failed.Err, sent))
	}
}
