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
	"slices"
	"strings"
	"sync"
	"testing"
)

// memory is a store that keeps the rules, but for one mistake.
type memory struct {
	mistake   string
	noReplace bool
	mu        sync.Mutex
	files     map[string][]byte
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
	if b, ok := m.files[name]; ok {
		return b, nil
	}
	return nil, os.ErrNotExist
}

func (m *memory) Names() (names []string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.files {
		names = append(names, name)
	}
	return names, nil
}

func (m *memory) Create(ctx context.Context, name string) (Pending, error) {
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

func (p *memoryPending) Commit() error {
	if p.ended {
		if p.m.is("it commits twice") {
			return nil
		}
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
		for range 1000 {
			p.m.Read(p.name)
		}
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

func (p *memoryPending) Rename(name string) error {
	if strings.ContainsAny(name, "/\\") {
		if !p.m.is("a rename takes paths") {
			return errors.New("not a plain name")
		}
		name = path.Base(path.Clean(name))
	}
	switch {
	case p.m.is("a rename does nothing"):
		return nil
	case p.m.is("a rename is seen at once"):
		p.m.set(name, nil)
	case p.m.is("a renamed payload keeps its first name"):
		p.m.set(p.name, nil)
	case p.m.is("a rename removes what was there"), p.m.is("a rename removes what was first"):
		p.m.Remove(name)
	case p.m.is("a rename ends the payload"):
		p.ended = true
	}
	p.name = name
	return nil
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

func (p *memoryPending) CommitUnsynced() error {
	if p.m.is("what is not synced is not visible") {
		return nil
	}
	if p.m.is("what is not synced replaces") {
		p.m.set(p.name, p.buf.Bytes())
		return nil
	}
	return p.Commit()
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

func (s leakyStore) Create(ctx context.Context, name string) (Pending, error) {
	p, err := s.memory.Create(ctx, name)
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(s.dir, "")
	return leaky{p.(*memoryPending), f}, err
}

// storeMistakes are those of memory, and the rules that they break.
var storeMistakes = map[string]string{
	"it shows what arrives":                  "whole",
	"it leaves temporary files":              "whole",
	"it loses what is large":                 "whole",
	"it commits less":                        "whole",
	"it replaces nothing":                    "replace",
	"it replaces in two steps":               "replace",
	"an abort removes what was there":        "abort",
	"a second abort is an error":             "abort",
	"it commits twice":                       "ended",
	"an abort removes what was committed":    "ended",
	"it takes paths":                         "names",
	"to remove nothing is an error":          "remove",
	"it removes nothing":                     "remove",
	"an end of the context fails":            "context",
	"a reset keeps what was written":         "reset",
	"the file is not closed":                 "file",
	"what is on its way is lost":             "wrote",
	"what is not synced is not visible":      "commit-unsynced",
	"it leaves a goroutine":                  "whole",
	"it is not safe at a time":               "concurrency",
	"a rename does nothing":                  "rename",
	"a rename is seen at once":               "rename",
	"a renamed payload keeps its first name": "rename",
	"a rename removes what was there":        "rename",
	"a rename takes paths":                   "rename",
	"a rename ends the payload":              "rename",
}

// noReplaceMistakes are those of a memory that replaces nothing.
var noReplaceMistakes = map[string]string{
	"it replaces, and says so":                       "no-replace",
	"it does not say that the name is taken":         "no-replace",
	"it says something else of a name that is taken": "no-replace",
	"what came later is left":                        "no-replace",
	"an abort of what came later is an error":        "no-replace",
	"it replaces what was begun at the same time":    "concurrency",
	"what is not synced replaces":                    "commit-unsynced",
	"a rename removes what was first":                "rename",
}

const (
	noReplaceAlone = "no mistake, and it replaces nothing"
	blind          = "it cannot be read"
)

func openMemory(mistake string) func(t testing.TB) Place {
	return func(t testing.TB) Place {
		_, noReplace := noReplaceMistakes[mistake]
		m := &memory{mistake: mistake, noReplace: noReplace || mistake == noReplaceAlone, files: make(map[string][]byte)}
		place := Place{Store: m, Read: m.Read, Names: m.Names, CommitsOnce: true, NoReplace: m.noReplace}
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

func (s *shared) Create(ctx context.Context, name string) (Pending, error) {
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
	out, err := tryMistake(t, exe, blind, "whole")
	if err == nil || !bytes.Contains(out, []byte("a Place without Store or Read")) || bytes.Contains(out, []byte("panic")) {
		t.Errorf("%v:\n%s", err, out)
	}
}

func TestAStoreWithoutMistakes(t *testing.T) {
	for _, name := range []string{"no mistake", noReplaceAlone} {
		t.Run(name, func(t *testing.T) { TestStore(t, openMemory(name)) })
	}
}
