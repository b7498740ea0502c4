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
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/accio-go/accio/cmd/internal/cli"
	"github.com/accio-go/accio/stage"
)

type program struct {
	cli.Flags
	Host string `arg:"" name:"HOST" help:"Name or address of the server."`
	Port string `arg:"" name:"PORT" help:"TCP port, or the name of a service."`
	File string `arg:"" name:"FILE" help:"File to send, or - for standard input."`

	Quiet           bool          `short:"q" help:"Show no progress."`
	ConnectTimeout  time.Duration `default:"10s" help:"How long to try to connect."`
	GreetingTimeout time.Duration `default:"10s" help:"How long to wait for each word of the server's handshake."`
	StallTimeout    time.Duration `default:"10s" help:"How long the server may take no more data."`
	ConfirmTimeout  time.Duration `default:"10s" help:"How long to wait for the server to confirm, once everything is sent. To make a very large file durable can take longer."`
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

const description = `Send a file by the Accio protocol.

Exit codes: 0 sent and confirmed; 1 stopped; 2 wrong arguments; 3 the file
cannot be read; 4 no connection; 5 the server does not speak the protocol, or
gave up; 6 the connection broke or stalled; 7 everything was sent, but not
confirmed.`

func main() {
	cli.Main(&program{}, "client", description)
}

// Validate refuses limits that make no sense; kong calls it.
func (p *program) Validate() error {
	for flag, limit := range map[string]time.Duration{
		"connect": p.ConnectTimeout, "greeting": p.GreetingTimeout, "stall": p.StallTimeout, "confirm": p.ConfirmTimeout,
	} {
		if limit <= 0 {
			return fmt.Errorf("--%s-timeout must be more than 0, such as 10s, not %v", flag, limit)
		}
	}
	return nil
}

func (p *program) Run(ctx context.Context) error {
	file, size, err := open(p.File)
	if err != nil {
		return cli.Exit(exitSource, fmt.Errorf("nothing was sent: %w", err))
	}
	defer file.Close()

	conn, err := p.dial(ctx)
	if err != nil {
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
	server := p.server(conn)
	_, err = sender.Send(ctx, conn, file)
	finish()
	return explain(err, p.File, server)
}

// open opens what is to be sent, and says how large it is: -1 if nobody knows.
func open(name string) (file *os.File, size int64, err error) {
	if name == "-" {
		file = os.Stdin
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

// dial connects to any of the server's addresses.
func (p *program) dial(ctx context.Context) (net.Conn, error) {
	dialer := net.Dialer{Timeout: p.ConnectTimeout}
	dialer.SetMultipathTCP(false)
	addr := net.JoinHostPort(p.Host, p.Port)
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err == nil {
		return conn, nil
	}
	var dns *net.DNSError
	var addrErr *net.AddrError
	hint := "is the server running, and reachable from here?"
	switch {
	case errors.As(err, &addrErr), errors.As(err, &dns) && strings.Contains(dns.Err, "unknown port"):
		return nil, cli.Exit(cli.ExitUsage, fmt.Errorf("PORT must be a number from 1 to 65535 or the name of a service, not %q", p.Port))
	case errors.As(err, &dns):
		hint = "is the name right?"
	case errors.Is(err, syscall.ECONNREFUSED):
		hint = "is the server running, and is that its port?"
	case ctx.Err() != nil:
		return nil, fmt.Errorf("stopped while connecting to %s", addr)
	}
	// The system's words: "dial tcp 192.0.2.1:5000: connection refused".
	return nil, cli.Exit(exitConnect, fmt.Errorf("cannot connect to %s within %v: %w; %s", addr, p.ConnectTimeout, err, hint))
}

// server names the server: as the user did, and by address where that differs.
func (p *program) server(conn net.Conn) string {
	addr := net.JoinHostPort(p.Host, p.Port)
	if remote := conn.RemoteAddr().String(); remote != addr {
		return addr + " (" + remote + ")"
	}
	return addr
}

// explain says what became of the upload of file, and what the user can do.
func explain(err error, file, server string) error {
	var failed *stage.SendError
	if !errors.As(err, &failed) {
		return err
	}
	sent := fmt.Sprintf("after %d bytes of %s were sent", failed.Sent, file)
	switch {
	case errors.Is(err, stage.ErrShutdown):
		return fmt.Errorf("%s: stopped %s; the server will not keep them", server, sent)
	case errors.Is(err, stage.ErrSource):
		return cli.Exit(exitSource, fmt.Errorf("%s: %w, %s; the server will not keep them", server, failed.Err, sent))
	case failed.Step == stage.StepHandshake && errors.Is(err, stage.ErrReset):
		return cli.Exit(exitBroken, fmt.Errorf("%s: in the handshake: %w; try again", server, failed.Err))
	case failed.Step == stage.StepHandshake:
		return cli.Exit(exitServer, fmt.Errorf("%s: in the handshake: %w; is it an Accio server, with a place free?", server, failed.Err))
	case failed.Step == stage.StepConfirm && errors.Is(err, stage.ErrIdle):
		return cli.Exit(exitConfirm, fmt.Errorf("%s: all %d bytes of %s were sent, but nothing was confirmed: %w; a large file may need a longer --confirm-timeout", server, failed.Sent, file, failed.Err))
	case failed.Step == stage.StepConfirm:
		return cli.Exit(exitConfirm, fmt.Errorf("%s: all %d bytes of %s were sent, but the server did not keep them: %w; its log may say why", server, failed.Sent, file, failed.Err))
	case errors.Is(err, stage.ErrGone), errors.Is(err, stage.ErrProtocol):
		return cli.Exit(exitServer, fmt.Errorf("%s: %w, %s; was it kept waiting for over 10 seconds?", server, failed.Err, sent))
	default:
		return cli.Exit(exitBroken, fmt.Errorf("%s: %w, %s; try again", server, failed.Err, sent))
	}
}
