package hook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// shell is POSIX's.
	shell = "/bin/sh"

	// killTime is what a command that is told to end has until it is killed.
	killTime = 200 * time.Millisecond

	// maxLine bounds what a failed command is quoted with, in bytes.
	maxLine = 256

	// descriptorsOfCommand: two pipes while it starts, its input, and itself.
	descriptorsOfCommand = 6
)

// checkShell says whether the shell is there and understands line, without running it.
func checkShell(ctx context.Context, line string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, shell, "-n", "-c", line).CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && len(out) > 0 {
		return fmt.Errorf("%s does not understand the command: %s", shell, lastLine(out))
	}
	if err != nil {
		return fmt.Errorf("%s cannot be used: %w", shell, err)
	}
	return nil
}

// command is a command of the shell. What it is told of a file is in the environment
// only: nothing that comes from a client is ever a part of the line.
type command struct {
	line    string
	timeout time.Duration
}

// run runs the command. It lasts until the shell has ended and nothing that it has
// started has its output open any longer; then all that is left of its process group is
// killed. When its time is over, or ctx is done, the group is told to end by a SIGTERM,
// and killed a moment later. An error quotes the last line that was written.
func (c command) run(ctx context.Context, s Saved) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("cannot be run: %w", err)
	}
	defer r.Close()
	cmd := exec.Command(shell, "-c", c.line)
	cmd.Env, cmd.Stdout, cmd.Stderr = environ(s), w, w // and its input is /dev/null
	group(cmd)
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("cannot be run: %w", err)
	}
	// The system gives a number to nobody else as long as there is a process in the
	// group (fork(2)), and hands them out in turn: that of a group which has just ended
	// is nobody's yet.
	defer kill(cmd.Process)

	var said []byte
	ended := make(chan error, 1)
	go func() {
		said = readTail(r)
		ended <- cmd.Wait()
	}()
	over := time.NewTimer(c.timeout)
	defer over.Stop()
	select {
	case err := <-ended:
		if err != nil && len(said) > 0 {
			err = fmt.Errorf("%w: %s", err, said)
		}
		return err
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-over.C:
		err = fmt.Errorf("killed after %v", c.timeout)
	}
	terminate(cmd.Process)
	moment := time.NewTimer(killTime)
	defer moment.Stop()
	select {
	case <-ended:
	case <-moment.C:
		kill(cmd.Process)
		r.SetReadDeadline(time.Now()) // for what has left the group
		<-ended
	}
	if len(said) > 0 {
		err = fmt.Errorf("%w; it said: %s", err, said)
	}
	return err
}

// readTail reads r to its end, and returns the last line.
func readTail(r *os.File) []byte {
	var tail []byte
	for buf := make([]byte, 4<<10); ; {
		n, err := r.Read(buf)
		tail = append(tail, buf[:n]...)
		if extra := len(tail) - 2*maxLine; extra > 0 {
			tail = slices.Delete(tail, 0, extra)
		}
		if err != nil {
			return lastLine(tail)
		}
	}
}

// lastLine is what is quoted of a text.
func lastLine(text []byte) []byte {
	text = bytes.TrimSpace(text)
	text = text[bytes.LastIndexAny(text, "\r\n")+1:]
	return bytes.ToValidUTF8(text[:min(len(text), maxLine)], []byte("?"))
}

// own begin the variables that are the program's own: its configuration, and what a service
// manager has said to it (sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3)). Another
// program of ours, which a command may run, is not to take them for its own.
var own = []string{"ACCIO_", "SAVED_", "LISTEN_", "NOTIFY_SOCKET=", "WATCHDOG_"}

// environ is the environment of a command: that of the program, but for what is its own.
func environ(s Saved) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return slices.ContainsFunc(own, func(prefix string) bool { return strings.HasPrefix(v, prefix) })
	})
	return append(env,
		"SAVED_NUMBER="+strconv.FormatUint(s.Number, 10),
		"SAVED_PATH="+s.Path,
		"SAVED_SIZE="+strconv.FormatInt(s.Size, 10),
		"SAVED_OUTCOME="+s.Outcome.String(),
		"SAVED_PEER="+s.Peer,
		"SAVED_TIME="+stamp(s.Time),
	)
}

// stamp is a time as both hooks tell it (RFC 3339).
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
