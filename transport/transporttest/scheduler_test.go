package transporttest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"slices"
	"testing"

	"github.com/accio-go/accio/transport"
)

// mistaken is a pool with mistakes.
type mistaken struct {
	slots            chan struct{}
	acquire, release func(slots chan struct{}, ctx context.Context) error
}

func take(slots chan struct{}, ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func give(slots chan struct{}, _ context.Context) error { <-slots; return nil }

func (m *mistaken) Acquire(ctx context.Context) error { return m.acquire(m.slots, ctx) }
func (m *mistaken) Release()                          { m.release(m.slots, context.Background()) }

type mistake struct {
	rule, name string
	slots      int // that it is said to have
	really     int
	acquire    func(slots chan struct{}, ctx context.Context) error
	release    func(slots chan struct{}, ctx context.Context) error
}

var mistakes = []mistake{
	{"bound", "it has one slot too many", 2, 3, take, give},
	{"bound", "it has one slot too few", 3, 2, take, give},
	{"order", "it serves two at a time, and so in any order", 1, 1, take,
		func(slots chan struct{}, _ context.Context) error { return nil }},
	{"release", "it frees no slot", 2, 2, take, func(chan struct{}, context.Context) error { return nil }},
	{"context", "it waits whatever the context", 2, 2, func(slots chan struct{}, _ context.Context) error {
		slots <- struct{}{}
		return nil
	}, give},
	{"context", "a free slot is had although the context is done", 2, 2, func(slots chan struct{}, ctx context.Context) error {
		select {
		case slots <- struct{}{}:
			return nil
		default:
			return take(slots, ctx)
		}
	}, give},
	{"context", "the error is its own", 2, 2, func(slots chan struct{}, ctx context.Context) error {
		if take(slots, ctx) != nil {
			return os.ErrClosed
		}
		return nil
	}, give},
	{"drain", "who waits takes a slot along", 2, 2, func(slots chan struct{}, ctx context.Context) error {
		if err := take(slots, ctx); err != nil {
			slots <- struct{}{}
			return err
		}
		return nil
	}, give},
	{"concurrency", "the slots are not shared", 2, 100, take, give},
}

const mistakeEnv = "TRANSPORTTEST_MISTAKE"

// TestMistake is for TestMistakesAreFound: it fails.
func TestMistake(t *testing.T) {
	name, ok := os.LookupEnv(mistakeEnv)
	if !ok {
		t.Skip("it is run by TestMistakesAreFound")
	}
	m := mistakes[slices.IndexFunc(mistakes, func(m mistake) bool { return m.name == name })]
	TestScheduler(t, m.slots, func() transport.Scheduler {
		return &mistaken{make(chan struct{}, m.really), m.acquire, m.release}
	})
}

func TestMistakesAreFound(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mistakes {
		t.Run(m.rule+"/"+m.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestMistake$/^"+m.rule+"$", "-test.timeout=1m")
			cmd.Env = append(cmd.Environ(), mistakeEnv+"="+m.name)
			out, err := cmd.CombinedOutput()
			if err == nil || !bytes.Contains(out, []byte("FAIL: TestMistake/"+m.rule)) || !bytes.Contains(out, []byte("the rule: ")) {
				t.Errorf("%v:\n%s", err, out)
			}
		})
	}
	for _, r := range rules {
		if !slices.ContainsFunc(mistakes, func(m mistake) bool { return m.rule == r.name }) {
			t.Errorf("there is no mistake against %s", r.name)
		}
	}
}
