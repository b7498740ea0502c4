package fstest

import (
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/afero"
)

// Crashing is a filesystem in memory that keeps what was synced apart from what was
// not, and can tell what may be left of it when the power is cut: at any moment of its
// history ([Crashing.Crashes]).
//
// What may be left is what POSIX lets a disk do, which is more than most do:
//
//   - A Sync of a file makes durable what the file holds, and not its name.
//   - A Sync of a directory makes durable the names that are in it, and nothing of what
//     the files hold.
//   - What was written or truncated since is there, or not, or a part of it is: some of
//     the writes, also later ones without earlier ones, half of a write, or the length
//     without the bytes.
//   - Which file a name stands for is any of those that it has stood for since, each
//     name by itself: a rename may have made the new name and not yet removed the old
//     one, or the other way round.
//   - A name in a directory that is not there is not there.
//
// Modes, owners and times are as they are, and no part of this. A directory cannot be
// renamed. It is safe for concurrent use; one open file is for one goroutine.
type Crashing struct {
	mu    sync.Mutex
	live  afero.Fs
	names map[string]int // which inode a name stands for
	dirs  map[int]bool   // the inodes that are directories
	log   []event
}

// NewCrashing returns a filesystem that holds nothing.
func NewCrashing() *Crashing {
	return &Crashing{live: afero.NewMemMapFs(), names: make(map[string]int), dirs: make(map[int]bool)}
}

// An event is a change, or a sync.
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
	named     eventKind = iota // path stands for inode now
	wrote                      // data at off
	truncated                  // to off
	synced                     // inode
	syncedDir                  // path
	syncedAll
)

// add is called with c.mu held.
func (c *Crashing) add(e event) { c.log = append(c.log, e) }

// Steps returns how many changes and syncs there were. What was acknowledged when
// there were so many has to be found after a [Crash] at that step, and any later one.
func (c *Crashing) Steps() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.log)
}

// SyncAll makes all that there is durable.
func (c *Crashing) SyncAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(event{kind: syncedAll})
}

// Name returns the name of the filesystem.
func (c *Crashing) Name() string { return "Crashing" }

// inode gives path a new inode. c.mu is held.
func (c *Crashing) inode(path string, dir bool) int {
	n := len(c.log) + 1 // which nobody else has, since this is logged
	c.names[path], c.dirs[n] = n, dir
	c.add(event{kind: named, path: path, inode: n, dir: dir})
	return n
}

func isRoot(path string) bool { return path == filepath.Dir(path) }

// isDir reports whether path is a directory. c.mu is held.
func (c *Crashing) isDir(path string) bool { return isRoot(path) || c.dirs[c.names[path]] }

func fail(op, path string, err error) error { return &os.PathError{Op: op, Path: path, Err: err} }

// Create creates a file, or empties it.
func (c *Crashing) Create(name string) (afero.File, error) {
	return c.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o666)
}

// Open opens a file or directory to read it.
func (c *Crashing) Open(name string) (afero.File, error) { return c.OpenFile(name, os.O_RDONLY, 0) }

// OpenFile opens a file as os.OpenFile does, but for os.O_APPEND, which it refuses.
func (c *Crashing) OpenFile(name string, flag int, perm os.FileMode) (afero.File, error) {
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
	f, err := c.live.OpenFile(path, flag, perm)
	if err != nil {
		return nil, err
	}
	switch {
	case n == 0 && !isRoot(path):
		n = c.inode(path, false)
	case flag&os.O_TRUNC != 0:
		c.add(event{kind: truncated, inode: n})
	}
	return &crashingFile{File: f, fs: c, path: path, inode: n}, nil
}

// Mkdir creates a directory.
func (c *Crashing) Mkdir(name string, perm os.FileMode) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mkdir(filepath.Clean(name), perm)
}

func (c *Crashing) mkdir(path string, perm os.FileMode) error {
	switch {
	case isRoot(path) || c.names[path] != 0:
		return fail("mkdir", path, os.ErrExist)
	case !c.isDir(filepath.Dir(path)):
		return fail("mkdir", path, os.ErrNotExist)
	}
	if err := c.live.Mkdir(path, perm); err != nil {
		return err
	}
	c.inode(path, true)
	return nil
}

// MkdirAll creates a directory with its parents.
func (c *Crashing) MkdirAll(name string, perm os.FileMode) error {
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

// Remove removes a file or an empty directory.
func (c *Crashing) Remove(name string) error {
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

// below lists what is in the directory path, and in those in it. c.mu is held.
func (c *Crashing) below(path string) []string {
	var names []string
	for name := range c.names {
		if strings.HasPrefix(name, path+string(filepath.Separator)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (c *Crashing) remove(path string) error {
	if err := c.live.Remove(path); err != nil {
		return err
	}
	delete(c.names, path)
	c.add(event{kind: named, path: path})
	return nil
}

// RemoveAll removes a directory with all that is in it.
func (c *Crashing) RemoveAll(name string) error {
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

// Rename gives a file another name, in place of the file that has it.
func (c *Crashing) Rename(oldname, newname string) error {
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
	if err := c.live.Rename(from, to); err != nil {
		return err
	}
	delete(c.names, from)
	c.names[to] = n
	c.add(event{kind: named, path: to, inode: n})
	c.add(event{kind: named, path: from})
	return nil
}

// Stat describes what has the name.
func (c *Crashing) Stat(name string) (os.FileInfo, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.live.Stat(filepath.Clean(name))
}

// Chmod changes the mode.
func (c *Crashing) Chmod(name string, mode os.FileMode) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.live.Chmod(filepath.Clean(name), mode)
}

// Chown changes the owner.
func (c *Crashing) Chown(name string, uid, gid int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.live.Chown(filepath.Clean(name), uid, gid)
}

// Chtimes changes the times.
func (c *Crashing) Chtimes(name string, atime, mtime time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.live.Chtimes(filepath.Clean(name), atime, mtime)
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

// Sync makes durable what the file holds, or the names in the directory.
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

func (f *crashingFile) Read(p []byte) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return f.File.Read(p)
}

func (f *crashingFile) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return f.File.ReadAt(p, off)
}

func (f *crashingFile) Readdir(n int) ([]os.FileInfo, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return f.File.Readdir(n)
}

func (f *crashingFile) Readdirnames(n int) ([]string, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return f.File.Readdirnames(n)
}

func (f *crashingFile) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return f.File.Close()
}

// Crash is what a cut of the power has left.
type Crash struct {
	// Step is when it was: after so many [Crashing.Steps].
	Step int

	// Fs is the filesystem as it is found, in memory, and all one's own.
	Fs afero.Fs
}

// Crashes goes through the cuts of the power that there may have been in the history
// up to now: for each step the states that may be left, in turn. Where there are more
// than limit for a step, it takes so many of them: always the four in which of the
// names, and of what files hold, all is there that may be or nothing, and others by
// chance, which is the same for the same seed.
func (c *Crashing) Crashes(limit int, seed uint64) iter.Seq[Crash] {
	c.mu.Lock()
	log := slices.Clip(c.log)
	c.mu.Unlock()
	return func(yield func(Crash) bool) {
		d := newDisk()
		rng := rand.New(rand.NewPCG(seed, 0))
		for step := 0; ; step++ {
			for state := range d.states(limit, rng) {
				if !yield(Crash{Step: step, Fs: d.found(state)}) {
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

// disk is what is durable at a step, and what may be.
type disk struct {
	names  map[string][]int // what the name stood for at the sync of its directory, and since
	inodes map[int]*inode
}

type inode struct {
	dir      bool
	durable  []byte
	changes  []event  // since
	variants [][]byte // of what it may hold; nil if that is to be found out
}

func newDisk() *disk { return &disk{names: make(map[string][]int), inodes: make(map[int]*inode)} }

// play goes on by one event.
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

// apply returns b with the first so many bytes of the change made, and b is no longer
// to be used.
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

// mayHold lists what the file may hold: first what is durable, then all that was
// changed, then other things.
func (n *inode) mayHold() [][]byte {
	if n.variants != nil {
		return n.variants
	}
	seen := make(map[string]bool)
	// half is a change of which the first half is made, if it is a write.
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
	// As long as it should be, and the bytes did not come.
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

// A state is what each name stands for and each file holds, of those that may be
// more than one thing.
type state struct {
	names  map[string]int
	inodes map[int]int // an index of mayHold
}

// states yields the states that may be found, or limit of them.
func (d *disk) states(limit int, rng *rand.Rand) iter.Seq[state] {
	type choice struct {
		of    int
		name  string
		inode int
	}
	var choices []choice
	total := 1
	count := func(c choice) {
		choices = append(choices, c)
		if total <= limit {
			total *= c.of
		}
	}
	var open []string
	reachable := make(map[int]bool)
	for name, history := range d.names {
		for _, n := range history {
			reachable[n] = true
		}
		if len(history) > 1 {
			open = append(open, name)
		}
	}
	slices.Sort(open)
	for _, name := range open {
		count(choice{of: len(d.names[name]), name: name})
	}
	var files []int
	for n := range reachable {
		if n != 0 && len(d.inodes[n].changes) > 0 {
			files = append(files, n)
		}
	}
	slices.Sort(files)
	for _, n := range files {
		count(choice{of: len(d.inodes[n].mayHold()), inode: n})
	}
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
		for corner := range 4 {
			if !yield(pick(func(c choice) int {
				switch {
				case c.inode == 0 && corner&1 == 0, c.inode != 0 && corner&2 == 0:
					return 0
				case c.inode == 0:
					return c.of - 1
				default:
					return min(1, c.of-1)
				}
			})) {
				return
			}
		}
		for range limit - 4 {
			if !yield(pick(func(c choice) int { return rng.IntN(c.of) })) {
				return
			}
		}
	}
}

// found makes a filesystem of a state.
func (d *disk) found(s state) afero.Fs {
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

// must is for what cannot fail in memory.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

var _ afero.Fs = (*Crashing)(nil)
