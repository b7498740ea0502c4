package fstest

import (
	"errors"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/afero"
)

// Crashing is a filesystem in memory that loses power: [Crashing.Crashes] returns the possible
// states of the disk at each moment of its history. The zero value is an empty filesystem.
//
// POSIX allows a disk to lose more than most disks do:
//
//   - A Sync of a file makes its content durable, and not its name.
//   - A Sync of a directory makes the names in it durable, and not the contents of files.
//   - Of the writes and truncations since, any subset may be left, also later ones without
//     earlier ones, half of a write, or the length without the bytes.
//   - A name stands for any file that it stood for since, independently of other names: of a
//     rename only the new name may be left, or only the old one, or both, or neither.
//   - A name in a directory that is lost is lost.
//
// Modes, owners and times are not lost. Directories cannot be renamed. The filesystem is safe
// for concurrent use; an open file is for one goroutine.
type Crashing struct {
	mu    sync.Mutex
	live  afero.Fs
	names map[string]int // to inodes
	dirs  map[int]bool   // inodes that are directories
	log   []event
}

// Fs returns the filesystem.
func (c *Crashing) Fs() afero.Fs {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live == nil {
		c.live, c.names, c.dirs = afero.NewMemMapFs(), make(map[string]int), make(map[int]bool)
	}
	return crashingFs{c.live, c}
}

// event is a change or a sync.
type event struct {
	kind  eventKind
	path  string
	inode int // 0 is none
	dir   bool
	off   int64 // or the size
	data  []byte
}

type eventKind int

const (
	named     eventKind = iota // path stands for inode
	wrote                      // data at off
	truncated                  // to off
	synced                     // inode
	syncedDir                  // path
	syncedAll
)

// add appends to the log. The caller holds c.mu.
func (c *Crashing) add(e event) { c.log = append(c.log, e) }

// Steps returns the number of changes and syncs so far. What was acknowledged by then must be
// found after each crash at this step or a later one.
func (c *Crashing) Steps() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.log)
}

// SyncAll makes everything durable.
func (c *Crashing) SyncAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(event{kind: syncedAll})
}

// newInode gives path a new inode. The caller holds c.mu.
func (c *Crashing) newInode(path string, dir bool) int {
	n := len(c.log) + 1 // unique, since this is logged
	c.names[path], c.dirs[n] = n, dir
	c.add(event{kind: named, path: path, inode: n, dir: dir})
	return n
}

func isRoot(path string) bool { return path == filepath.Dir(path) }

// isDir reports whether path is a directory. The caller holds c.mu.
func (c *Crashing) isDir(path string) bool { return isRoot(path) || c.dirs[c.names[path]] }

func fail(op, path string, err error) error { return &os.PathError{Op: op, Path: path, Err: err} }

// crashingFs is the filesystem of a Crashing. Other calls go to the live one, which is afero's.
type crashingFs struct {
	afero.Fs
	*Crashing
}

func (c crashingFs) Create(name string) (afero.File, error) {
	return c.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o666)
}

func (c crashingFs) Open(name string) (afero.File, error) { return c.OpenFile(name, os.O_RDONLY, 0) }

// OpenFile does not support os.O_APPEND.
func (c crashingFs) OpenFile(name string, flag int, perm os.FileMode) (afero.File, error) {
	path := filepath.Clean(name)
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.names[path]
	switch {
	case flag&os.O_APPEND != 0:
		return nil, fail("open", name, errors.ErrUnsupported)
	case n == 0 && flag&os.O_CREATE == 0 && !isRoot(path), !c.isDir(filepath.Dir(path)):
		return nil, fail("open", name, os.ErrNotExist)
	case c.isDir(path) && flag&(os.O_WRONLY|os.O_RDWR|os.O_CREATE|os.O_TRUNC) != 0:
		return nil, fail("open", name, syscall.EISDIR)
	}
	f, err := c.Fs.OpenFile(path, flag, perm)
	if err != nil {
		return nil, err
	}
	switch {
	case n == 0 && !isRoot(path):
		n = c.newInode(path, false)
	case flag&os.O_TRUNC != 0:
		c.add(event{kind: truncated, inode: n})
	}
	return &crashingFile{File: f, fs: c.Crashing, path: path, inode: n}, nil
}

func (c crashingFs) Mkdir(name string, perm os.FileMode) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mkdir(filepath.Clean(name), perm)
}

func (c crashingFs) mkdir(path string, perm os.FileMode) error {
	switch {
	case isRoot(path) || c.names[path] != 0:
		return fail("mkdir", path, os.ErrExist)
	case !c.isDir(filepath.Dir(path)):
		return fail("mkdir", path, os.ErrNotExist)
	}
	if err := c.Fs.Mkdir(path, perm); err != nil {
		return err
	}
	c.newInode(path, true)
	return nil
}

func (c crashingFs) MkdirAll(name string, perm os.FileMode) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var missing []string
	for path := filepath.Clean(name); !c.isDir(path); path = filepath.Dir(path) {
		if c.names[path] != 0 {
			return fail("mkdir", path, syscall.ENOTDIR)
		}
		missing = append(missing, path)
	}
	for _, path := range slices.Backward(missing) {
		if err := c.mkdir(path, perm); err != nil {
			return err
		}
	}
	return nil
}

func (c crashingFs) Remove(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	path := filepath.Clean(name)
	switch {
	case c.names[path] == 0:
		return fail("remove", name, os.ErrNotExist)
	case len(c.below(path)) > 0:
		return fail("remove", name, syscall.ENOTEMPTY)
	}
	return c.remove(path)
}

// below returns the names below the directory path. The caller holds c.mu.
func (c crashingFs) below(path string) []string {
	var names []string
	for name := range c.names {
		if strings.HasPrefix(name, path+string(filepath.Separator)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (c crashingFs) remove(path string) error {
	if err := c.Fs.Remove(path); err != nil {
		return err
	}
	delete(c.names, path)
	c.add(event{kind: named, path: path})
	return nil
}

func (c crashingFs) RemoveAll(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	path := filepath.Clean(name)
	gone := c.below(path)
	if c.names[path] != 0 {
		gone = append([]string{path}, gone...)
	}
	for _, path := range slices.Backward(gone) {
		if err := c.remove(path); err != nil {
			return err
		}
	}
	return nil
}

func (c crashingFs) Rename(oldname, newname string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	from, to := filepath.Clean(oldname), filepath.Clean(newname)
	n := c.names[from]
	switch {
	case n == 0 || !c.isDir(filepath.Dir(to)):
		return fail("rename", oldname, os.ErrNotExist)
	case c.dirs[n]:
		return fail("rename", oldname, errors.ErrUnsupported)
	case c.isDir(to):
		return fail("rename", newname, syscall.EISDIR)
	case from == to:
		return nil
	}
	if err := c.Fs.Rename(from, to); err != nil {
		return err
	}
	delete(c.names, from)
	c.names[to] = n
	c.add(event{kind: named, path: to, inode: n})
	c.add(event{kind: named, path: from})
	return nil
}

// crashingFile is an open file or directory of a Crashing.
type crashingFile struct {
	afero.File
	fs    *Crashing
	path  string
	inode int // 0 of a root
}

func (f *crashingFile) Write(p []byte) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	off, err := f.File.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	n, err := f.File.Write(p)
	f.wrote(p[:n], off)
	return n, err
}

func (f *crashingFile) WriteString(s string) (int, error) { return f.Write([]byte(s)) }

func (f *crashingFile) WriteAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	n, err := f.File.WriteAt(p, off)
	f.wrote(p[:n], off)
	return n, err
}

func (f *crashingFile) wrote(p []byte, off int64) {
	if len(p) > 0 {
		f.fs.add(event{kind: wrote, inode: f.inode, off: off, data: slices.Clone(p)})
	}
}

func (f *crashingFile) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	err := f.File.Truncate(size)
	if err == nil {
		f.fs.add(event{kind: truncated, inode: f.inode, off: size})
	}
	return err
}

// Sync makes the content of a file durable, or the names in a directory.
func (f *crashingFile) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.File.Sync(); err != nil {
		return err
	}
	if f.inode == 0 || f.fs.dirs[f.inode] {
		f.fs.add(event{kind: syncedDir, path: f.path})
	} else {
		f.fs.add(event{kind: synced, inode: f.inode})
	}
	return nil
}

// Crashes yields the possible states after a loss of power at each moment of the history so far:
// the step (see [Crashing.Steps]) and a filesystem in memory, for each state that is
// possible at the step.
//
// If a step has more than limit states, Crashes yields limit of them: the four in which each
// name and each content is the oldest or the newest possible, and random ones. The same
// seed yields the same states.
func (c *Crashing) Crashes(limit int, seed uint64) iter.Seq2[int, afero.Fs] {
	c.mu.Lock()
	log := slices.Clip(c.log)
	c.mu.Unlock()
	return func(yield func(int, afero.Fs) bool) {
		d := newDisk()
		rng := rand.New(rand.NewPCG(seed, 0))
		for step := 0; ; step++ {
			for state := range d.states(limit, rng) {
				if !yield(step, d.filesystem(state)) {
					return
				}
			}
			if step == len(log) {
				return
			}
			d.play(log[step])
		}
	}
}

// disk is the durable state at a step, with the changes that may be durable.
type disk struct {
	names  map[string][]int // the inodes of a name: at the sync of its directory, and since
	inodes map[int]*inode
}

type inode struct {
	dir      bool
	durable  []byte
	changes  []event  // since the sync
	variants [][]byte // of its content; nil if not computed
}

func newDisk() *disk { return &disk{names: make(map[string][]int), inodes: make(map[int]*inode)} }

// play applies one event.
func (d *disk) play(e event) {
	switch e.kind {
	case named:
		if d.names[e.path] == nil {
			d.names[e.path] = []int{0}
		}
		d.names[e.path] = append(d.names[e.path], e.inode)
		if e.inode != 0 && d.inodes[e.inode] == nil {
			d.inodes[e.inode] = &inode{dir: e.dir}
		}
	case wrote, truncated:
		n := d.inodes[e.inode]
		n.changes, n.variants = append(n.changes, e), nil
	case synced:
		d.inodes[e.inode].sync()
	case syncedDir:
		for name := range d.names {
			if filepath.Dir(name) == e.path {
				d.syncName(name)
			}
		}
	case syncedAll:
		for name := range d.names {
			d.syncName(name)
		}
		for _, n := range d.inodes {
			n.sync()
		}
	}
}

func (d *disk) syncName(name string) {
	now := d.names[name][len(d.names[name])-1]
	if now == 0 {
		delete(d.names, name)
		return
	}
	d.names[name] = []int{now}
}

func (n *inode) sync() {
	for _, e := range n.changes {
		n.durable = e.apply(n.durable, len(e.data))
	}
	n.changes, n.variants = nil, nil
}

// apply returns b after the change, of which it makes only so many bytes. It may overwrite b.
func (e event) apply(b []byte, bytes int) []byte {
	end := int(e.off) + bytes
	if e.kind == truncated {
		b = b[:min(len(b), end):len(b)]
	}
	if end > len(b) {
		b = append(b, make([]byte, end-len(b))...)
	}
	copy(b[e.off:], e.data[:bytes])
	return b
}

// mayHold returns the possible contents of the file: first the durable one, then the one with
// all changes, then others.
func (n *inode) mayHold() [][]byte {
	if n.variants != nil {
		return n.variants
	}
	seen := make(map[string]bool)
	// half is the index of a write of which only the first half is made.
	add := func(made func(i int) bool, half int) {
		b := slices.Clone(n.durable)
		for i, e := range n.changes {
			switch {
			case i == half && e.kind == wrote:
				b = e.apply(b, len(e.data)/2)
			case made(i):
				b = e.apply(b, len(e.data))
			}
		}
		if !seen[string(b)] {
			seen[string(b)] = true
			n.variants = append(n.variants, b)
		}
	}
	const none = -1
	all := func(int) bool { return true }
	add(func(int) bool { return false }, none)
	add(all, none)
	for at := range n.changes {
		add(func(i int) bool { return i < at }, none)
		add(func(i int) bool { return i < at }, at)
		add(func(i int) bool { return i == at }, none)
		add(func(i int) bool { return i != at }, none)
		add(all, at)
	}
	// The length was written, and the bytes were not.
	hole := slices.Clone(n.durable)
	for _, e := range n.changes {
		if end := e.off + int64(len(e.data)); e.kind == truncated || end > int64(len(hole)) {
			hole = event{kind: truncated, off: end}.apply(hole, 0)
		}
	}
	if !seen[string(hole)] {
		n.variants = append(n.variants, hole)
	}
	return n.variants
}

// state is one of the possible states: an inode for each name, and a content for each file, that
// has more than one choice.
type state struct {
	names  map[string]int
	inodes map[int]int // an index of mayHold
}

// choice is a name with several possible inodes, or a file with several possible contents.
type choice struct {
	of    int // how many
	name  string
	inode int // 0: of a name
}

// choices returns the choices in a fixed order, and the number of states, or a number above
// limit if there are more.
func (d *disk) choices(limit int) (all []choice, states int) {
	var names []string
	reachable := make(map[int]bool)
	for name, history := range d.names {
		for _, n := range history {
			reachable[n] = true
		}
		if len(history) > 1 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		all = append(all, choice{of: len(d.names[name]), name: name})
	}
	for _, n := range slices.Sorted(maps.Keys(reachable)) {
		if n != 0 && len(d.inodes[n].changes) > 0 {
			all = append(all, choice{of: len(d.inodes[n].mayHold()), inode: n})
		}
	}
	states = 1
	for _, c := range all {
		if states <= limit {
			states *= c.of
		}
	}
	return all, states
}

// states yields all states that may be found, or limit of them.
func (d *disk) states(limit int, rng *rand.Rand) iter.Seq[state] {
	choices, total := d.choices(limit)
	pick := func(choose func(c choice) int) state {
		s := state{make(map[string]int), make(map[int]int)}
		for _, c := range choices {
			if c.inode == 0 {
				s.names[c.name] = d.names[c.name][choose(c)]
			} else {
				s.inodes[c.inode] = choose(c)
			}
		}
		return s
	}
	return func(yield func(state) bool) {
		if total <= limit {
			for i := range total {
				left := i
				if !yield(pick(func(c choice) int {
					at := left % c.of
					left /= c.of
					return at
				})) {
					return
				}
			}
			return
		}
		for i := range limit {
			if !yield(pick(func(c choice) int {
				switch oldest := i&1 == 0 && c.inode == 0 || i&2 == 0 && c.inode != 0; {
				case i >= 4:
					return rng.IntN(c.of)
				case oldest:
					return 0
				case c.inode == 0:
					return c.of - 1
				}
				return min(1, c.of-1) // mayHold has all changes there
			})) {
				return
			}
		}
	}
}

// filesystem returns the filesystem of a state.
func (d *disk) filesystem(s state) afero.Fs {
	stands := func(name string) int {
		if n, ok := s.names[name]; ok {
			return n
		}
		if history := d.names[name]; history != nil {
			return history[0]
		}
		return 0
	}
	reached := func(name string) bool {
		for dir := filepath.Dir(name); !isRoot(dir); dir = filepath.Dir(dir) {
			if n := stands(dir); n == 0 || !d.inodes[n].dir {
				return false
			}
		}
		return true
	}
	afs := afero.NewMemMapFs()
	for name := range d.names {
		id := stands(name)
		if id == 0 || !reached(name) {
			continue
		}
		n := d.inodes[id]
		if n.dir {
			must(afs.MkdirAll(name, 0o777))
			continue
		}
		b := n.durable
		if at, ok := s.inodes[id]; ok {
			b = n.mayHold()[at]
		}
		must(afero.WriteFile(afs, name, b, 0o666))
	}
	return afs
}

// must panics if err is not nil. The calls cannot fail in memory.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
