package fstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// memory is a store that keeps the rules, but for one mistake.
type memory struct {
	mistake   string
	noReplace bool
	mu        sync.Mutex
	files     map[string][]byte
	reads     int
}

func (m *memory) is(mistake string) bool { return m.mistake == mistake }

func (m *memory) set(name string, b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[name] = b
}

// put is set, unless there is something already.
func (m *memory) put(name string, b []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, taken := m.files[name]
	if !taken {
		m.files[name] = b
	}
	return !taken
}

func (m *memory) Read(name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	if b, ok := m.files[name]; ok {
		return b, nil
	}
	return nil, os.ErrNotExist
}

// awaitRead waits until a reader has come, or none seems to.
func (m *memory) awaitRead() {
	reads := func() int {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.reads
	}
	for before, begun := reads(), time.Now(); reads() == before && time.Since(begun) < 100*time.Millisecond; {
		runtime.Gosched()
	}
}

func (m *memory) Names() (names []string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.files {
		names = append(names, name)
	}
	return names, nil
}

func (m *memory) Create(ctx context.Context, name string) (pending, error) {
	if m.is("it takes paths") {
		name = strings.TrimPrefix(name, "../")
	}
	if m.is("it leaves a goroutine") {
		go func() { select {} }()
	}
	if m.is("it shows what arrives") {
		m.set(name, nil)
	}
	if m.is("it leaves temporary files") {
		m.set("."+name, nil)
	}
	_, err := m.Read(name)
	return &memoryPending{m: m, ctx: ctx, name: name, taken: err == nil}, nil
}

func (m *memory) Remove(name string) error {
	if m.noReplace && !m.is("it removes nevertheless") {
		return errors.ErrUnsupported
	}
	if _, err := m.Read(name); err != nil && m.is("to remove nothing is an error") {
		return err
	}
	if m.is("it removes nothing") {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.files, name)
	return nil
}

type memoryPending struct {
	m     *memory
	ctx   context.Context
	name  string
	buf   bytes.Buffer
	ended bool

	taken  bool // the name was, when it was begun
	failed bool // because the name was taken
}

func (p *memoryPending) Write(b []byte) (int, error) {
	if p.m.is("it loses what is large") && p.buf.Len() > 1<<20 {
		return len(b), nil
	}
	return p.buf.Write(b)
}

func (p *memoryPending) Commit() error { return p.commit() }

func (p *memoryPending) commit() error {
	if p.ended {
		return fmt.Errorf("commit: %w", os.ErrClosed)
	}
	p.ended = true
	if _, err := p.m.Read(p.name); err == nil && p.m.is("it replaces nothing") {
		return os.ErrExist
	}
	b := p.buf.Bytes()
	if p.m.noReplace {
		return p.first(b)
	}
	if p.m.is("it replaces in two steps") {
		p.m.set(p.name, b[:len(b)/2])
		p.m.awaitRead()
	}
	p.m.set(p.name, b)
	if p.m.is("it commits less") && len(b) > 0 {
		p.m.set(p.name, b[1:])
	}
	return nil
}

// first commits in a store that replaces nothing.
func (p *memoryPending) first(b []byte) error {
	if p.m.is("it replaces what was begun at the same time") && !p.taken {
		p.m.set(p.name, b)
		return nil
	}
	if _, err := p.m.Read(p.name); err == nil && p.m.is("it replaces, and says so") {
		p.m.set(p.name, b)
		return os.ErrExist
	}
	if p.m.put(p.name, b) || p.m.is("it does not say that the name is taken") {
		return nil
	}
	if p.m.is("what came later is left") {
		p.m.set("."+p.name, b)
	}
	if p.m.is("it says something else of a name that is taken") {
		return errors.New("something else")
	}
	p.failed = true
	return os.ErrExist
}

func (p *memoryPending) CommitAs(name string, sync bool) error {
	if strings.ContainsAny(name, "/\\") {
		if !p.m.is("it commits as paths") {
			return errors.New("not a plain name")
		}
		name = path.Base(path.Clean(name))
	}
	switch {
	case p.m.is("it ignores the name"):
		return p.commit()
	case p.m.is("it also commits under the first name"):
		p.m.set(p.name, nil)
	case p.m.is("without a sync nothing is visible") && !sync:
		return nil
	case p.m.is("without a sync it replaces") && !sync:
		p.m.set(name, p.buf.Bytes())
		return nil
	case p.m.is("it removes the first name"):
		p.m.Remove(p.name)
	}
	p.name = name
	return p.commit()
}

func (p *memoryPending) Abort() error {
	if p.m.is("an abort of what came later is an error") && p.failed {
		return os.ErrExist
	}
	if p.m.is("an end of the context fails") && p.ctx.Err() != nil {
		return p.ctx.Err()
	}
	if p.m.is("an abort removes what was committed") && p.ended || p.m.is("an abort removes what was there") {
		p.m.Remove(p.name)
	}
	if p.m.is("a second abort is an error") && p.ended {
		return os.ErrClosed
	}
	p.ended = true
	return nil
}

func (p *memoryPending) Reset() error {
	if !p.m.is("a reset keeps what was written") {
		p.buf.Reset()
	}
	return nil
}

func (p *memoryPending) Wrote(int) {
	if p.m.is("what is on its way is lost") {
		p.buf.Reset()
	}
}

// leaky is a pending file that is never closed.
type leaky struct {
	*memoryPending
	file *os.File
}

func (p leaky) File() *os.File { return p.file }

type leakyStore struct {
	*memory
	dir string
}

func (s leakyStore) Create(ctx context.Context, name string) (pending, error) {
	p, err := s.memory.Create(ctx, name)
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(s.dir, "")
	return leaky{p.(*memoryPending), f}, err
}

// storeMistakes are those of memory, and the rules that they break.
var storeMistakes = map[string]string{
	"it shows what arrives":                "complete",
	"it leaves temporary files":            "complete",
	"it loses what is large":               "complete",
	"it commits less":                      "complete",
	"it replaces nothing":                  "replace",
	"it replaces in two steps":             "replace",
	"an abort removes what was there":      "abort",
	"a second abort is an error":           "abort",
	"an abort removes what was committed":  "ended",
	"it takes paths":                       "names",
	"to remove nothing is an error":        "remove",
	"it removes nothing":                   "remove",
	"an end of the context fails":          "context",
	"a reset keeps what was written":       "reset",
	"the file is not closed":               "file",
	"what is on its way is lost":           "wrote",
	"it leaves a goroutine":                "complete",
	"it is not safe at a time":             "concurrency",
	"it ignores the name":                  "commit-as",
	"it also commits under the first name": "commit-as",
	"it removes the first name":            "commit-as",
	"it commits as paths":                  "commit-as",
	"without a sync nothing is visible":    "commit-as",
}

// noReplaceMistakes are those of a memory that replaces nothing.
var noReplaceMistakes = map[string]string{
	"it replaces, and says so":                       "no-replace",
	"it does not say that the name is taken":         "no-replace",
	"it says something else of a name that is taken": "no-replace",
	"what came later is left":                        "no-replace",
	"an abort of what came later is an error":        "no-replace",
	"it replaces what was begun at the same time":    "concurrency",
	"without a sync it replaces":                     "commit-as",
	"it removes nevertheless":                        "no-replace",
}

const (
	noReplaceAlone = "no mistake, and it replaces nothing"
	blind          = "it cannot be read"
)

func openMemory(mistake string) func(t testing.TB) Place {
	return func(t testing.TB) Place {
		_, noReplace := noReplaceMistakes[mistake]
		m := &memory{mistake: mistake, noReplace: noReplace || mistake == noReplaceAlone, files: make(map[string][]byte)}
		place := Place{Store: m, Read: m.Read, Names: m.Names, NoReplace: m.noReplace}
		switch mistake {
		case "the file is not closed":
			place.Store = leakyStore{m, t.TempDir()}
		case "it is not safe at a time":
			place.Store = &shared{memory: m}
		case blind:
			place.Read = nil
		}
		return place
	}
}

// shared has one buffer for all.
type shared struct {
	*memory
	one memoryPending
}

func (s *shared) Create(ctx context.Context, name string) (pending, error) {
	s.one = memoryPending{m: s.memory, ctx: ctx, name: name}
	return &s.one, nil
}

const mistakeEnv = "FSTEST_MISTAKE"

// TestStoreMistake is for TestMistakesOfStoresAreFound: it fails.
func TestStoreMistake(t *testing.T) {
	mistake, ok := os.LookupEnv(mistakeEnv)
	if !ok {
		t.Skip("it is run by TestMistakesOfStoresAreFound")
	}
	TestStore(t, openMemory(mistake))
}

func TestMistakesOfStoresAreFound(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	all := maps.Clone(storeMistakes)
	maps.Copy(all, noReplaceMistakes)
	for mistake, rule := range all {
		t.Run(rule+"/"+mistake, func(t *testing.T) {
			t.Parallel()
			out, err := tryMistake(t, exe, mistake, rule)
			if err == nil || !bytes.Contains(out, []byte("FAIL: TestStoreMistake/"+rule)) || !bytes.Contains(out, []byte("the rule: ")) {
				t.Errorf("%v:\n%s", err, out)
			}
		})
	}
	for _, r := range storeRules {
		if !slices.Contains(slices.Collect(maps.Values(all)), r.name) {
			t.Errorf("there is no mistake against %s", r.name)
		}
	}
}

// tryMistake has a process of its own look for the mistake.
func tryMistake(t *testing.T, exe, mistake, rule string) ([]byte, error) {
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestStoreMistake$/^"+rule+"$", "-test.timeout=1m")
	cmd.Env = append(cmd.Environ(), mistakeEnv+"="+mistake)
	return cmd.CombinedOutput()
}

func TestAPlaceHasToBeRead(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := tryMistake(t, exe, blind, "complete")
	if err == nil || !bytes.Contains(out, []byte("a Place without Store or Read")) || bytes.Contains(out, []byte("panic")) {
		t.Errorf("%v:\n%s", err, out)
	}
}

func TestAStoreWithoutMistakes(t *testing.T) {
	for _, name := range []string{"no mistake", noReplaceAlone} {
		t.Run(name, func(t *testing.T) { TestStore(t, openMemory(name)) })
	}
}
