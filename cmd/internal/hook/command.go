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
	shell = "/bin/sh"

	// killTime is the time between SIGTERM and SIGKILL.
	killTime = 200 * time.Millisecond

	// maxLine bounds the quoted output of a failed command, in bytes.
	maxLine = 256

	// descriptorsOfCommand: two pipes while it starts, its input, and its pidfd.
	descriptorsOfCommand = 6
)

// checkShell returns an error if there is no shell, or if it cannot parse line. It runs
// nothing.
func checkShell(ctx context.Context, line string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, shell, "-n", "-c", line).CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && len(out) > 0 {
		return fmt.Errorf("%s cannot parse the command: %s", shell, lastLine(out))
	}
	if err != nil {
		return fmt.Errorf("cannot use %s: %w", shell, err)
	}
	return nil
}

// command is a shell command. The environment describes the file: data from a client is
// never part of the line.
type command struct {
	line    string
	timeout time.Duration
}

// run runs the command until the shell has ended and no process holds its output open,
// and then kills the rest of the process group. After the timeout, or when ctx is done,
// it sends SIGTERM to the group, and SIGKILL a moment later. An error quotes the last
// line of output.
func (c command) run(ctx context.Context, s Saved) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("cannot run: %w", err)
	}
	defer r.Close()
	cmd := exec.Command(shell, "-c", c.line)
	cmd.Env, cmd.Stdout, cmd.Stderr = environ(s), w, w // the input is /dev/null
	group(cmd)
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("cannot run: %w", err)
	}
	// The kernel does not reuse the number of a group that has processes (fork(2)), and
	// assigns numbers in turn: the number of a group that has just ended is still free.
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
		r.SetReadDeadline(time.Now()) // a process outside of the group may hold it
		<-ended
	}
	if len(said) > 0 {
		err = fmt.Errorf("%w; last output: %s", err, said)
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

// lastLine returns the last line of a text, shortened.
func lastLine(text []byte) []byte {
	text = bytes.TrimSpace(text)
	text = text[bytes.LastIndexAny(text, "\r\n")+1:]
	return bytes.ToValidUTF8(text[:min(len(text), maxLine)], []byte("?"))
}

// own holds the prefixes of variables that are for this program only: its configuration,
// and variables of the service manager (sd_listen_fds(3), sd_notify(3),
// sd_watchdog_enabled(3)). A command may run another program of ours.
var own = []string{"ACCIO_", "SAVED_", "LISTEN_", "NOTIFY_SOCKET=", "WATCHDOG_"}

// environ returns the environment of a command: that of the program without own.
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

// stamp formats a time for both hooks (RFC 3339).
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
