//go:build linux

package hook

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestCommandIsToldByItsEnvironment(t *testing.T) {
	t.Setenv("ACCIO_CONFIG", "/no/such")
	t.Setenv("SAVED_OTHER", "x")
	t.Setenv("NOTIFY_SOCKET", "/no/such")
	t.Setenv("LISTEN_FDS", "1")
	t.Setenv("OTHERS", "stay")
	out := filepath.Join(t.TempDir(), "out")
	s := saved
	s.Path = "/files/$(touch x)`id`' \"\n;/7.file"
	err := command{`cat - >"` + out + `" && env | grep -E '^(ACCIO_|SAVED_[^P]|OTHERS|NOTIFY|LISTEN)' | sort >>"` + out + `"; printf %s "$SAVED_PATH|$SAVED_PEER" >>"` + out + `"`, time.Minute}.run(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(out)
	want := "OTHERS=stay\nSAVED_NUMBER=7\nSAVED_OUTCOME=received\nSAVED_SIZE=5\nSAVED_TIME=1970-01-01T00:00:01.000Z\n" + s.Path + "|[::1]:4711"
	if string(got) != want {
		t.Errorf("it is told\n%s\n%v; want\n%s", got, err, want)
	}
}

func TestCommandThatFails(t *testing.T) {
	for _, tt := range []struct{ name, line, err string }{
		{"with a word", "echo first; echo last >&2; exit 3", "exit status 3: last"},
		{"in silence", "exit 4", "exit status 4"},
		{"by a signal", "kill -9 $$", "signal: killed"},
		{"with a flood", "head -c 3000000 /dev/zero | tr '\\0' x; exit 1", "exit status 1: " + strings.Repeat("x", maxLine)},
		{"with progress", `printf '10%%\r20%%\rbroken\r\n'; exit 1`, "exit status 1: broken"},
		{"with what is no text", `printf '\377\376'; exit 1`, "exit status 1: ?"},
		{"not there", "/no/such/command", "/no/such/command"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := command{tt.line, time.Minute}.run(t.Context(), saved)
			if err == nil || !strings.Contains(err.Error(), tt.err) || len(err.Error()) > 2*maxLine {
				t.Errorf("%v, want %q", err, tt.err)
			}
		})
	}
}

// children writes the numbers of processes that last for long into a file.
const children = `sleep 1000 & echo $! >>"$SAVED_PATH"; (sleep 1000 & echo $! >>"$SAVED_PATH"; wait) & `

func TestCommandIsKilledWithAllThatItHasStarted(t *testing.T) {
	for name, tt := range map[string]struct {
		line string
		err  string
	}{
		"it hangs":                      {children + "wait", "killed after 1s"},
		"it does not listen":            {"trap '' TERM; " + children + "while :; do sleep 1000; done", "killed after 1s"},
		"it ends, and they do not":      {children, "killed after 1s"},
		"they have closed their output": {"exec >/dev/null 2>&1; " + children + "sleep 0.1", ""},
		"it floods":                     {children + "yes", "killed after 1s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := saved
			s.Path = filepath.Join(t.TempDir(), "children")
			begin := time.Now()
			err := command{tt.line, time.Second}.run(t.Context(), s)
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.err)) {
				t.Errorf("%v, want %q", err, tt.err)
			}
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
			gone(t, s.Path, 2)
		})
	}
}

// gone waits until n processes whose numbers are in a file are no more.
func gone(t *testing.T, name string, n int) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	pids := strings.Fields(string(text))
	if len(pids) != n {
		t.Errorf("%d processes were started, want %d", len(pids), n)
	}
	for _, pid := range pids {
		for deadline := time.Now().Add(10 * time.Second); alive(pid); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Errorf("process %s is still there", pid)
				break
			}
		}
	}
}

// alive reports whether a process is there, and not merely not yet waited for.
func alive(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func TestCommandThatLeavesItsGroupHoldsNothingUp(t *testing.T) {
	s := saved
	s.Path = filepath.Join(t.TempDir(), "pid")
	begin := time.Now()
	err := command{`setsid sh -c 'echo $$ >"$SAVED_PATH"; exec sleep 30' & wait`, 500 * time.Millisecond}.run(t.Context(), s)
	if err == nil || time.Since(begin) > 10*time.Second {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
	if text, err := os.ReadFile(s.Path); err == nil {
		var pid int
		for _, c := range strings.TrimSpace(string(text)) {
			pid = pid*10 + int(c-'0')
		}
		if pid > 1 {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

func TestCommandIsBrokenOff(t *testing.T) {
	ctx, end := context.WithCancelCause(t.Context())
	out := filepath.Join(t.TempDir(), "out")
	s := saved
	s.Path = out
	done := make(chan error, 1)
	go func() {
		done <- command{`trap 'echo sorry >>"$SAVED_PATH"; exit' TERM; echo begun >>"$SAVED_PATH"; sleep 1000 & wait`, time.Minute}.run(ctx, s)
	}()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if text, _ := os.ReadFile(out); string(text) == "begun\n" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it does not begin")
		}
	}
	end(errStopped)
	if err := <-done; err != errStopped {
		t.Error(err)
	}
	if text, _ := os.ReadFile(out); string(text) != "begun\nsorry\n" {
		t.Errorf("it was not told: %q", text)
	}
}
