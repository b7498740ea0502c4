package fs

import (
	"os"
	"sync"
	"time"

	"github.com/spf13/afero"
)

// NewMemory returns a filesystem in memory that is safe for concurrent use,
// for tests and for what need not outlive the process:
//
//	mem := fs.NewMemory()
//	store, err := fs.New(mem, "/save")
//
// It is afero's MemMapFs behind a lock. By itself that lets O_EXCL succeed for
// two at a time, and can deadlock when two rename the same file. Open files are
// the MemMapFs's own: one handle is for one goroutine, and two handles of a
// file may be used at a time.
func NewMemory() afero.Fs { return &memory{afs: afero.NewMemMapFs()} }

type memory struct {
	mu  sync.Mutex
	afs afero.Fs
}

func (m *memory) Name() string { return "Memory" }

func (m *memory) Create(name string) (afero.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.afs.Create(name)
}

func (m *memory) Mkdir(name string, perm os.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.afs.Mkdir(name, perm)
}

func (m *memory) MkdirAll(path string, perm os.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.afs.MkdirAll(path, perm)
}

func (m *memory) Open(name string) (afero.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.afs.Open(name)
}

func (m *memory) OpenFile(name string, flag int, perm os.FileMode) (afero.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.afs.OpenFile(name, flag, perm)
}

func (m *memory) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.afs.Remove(name)
}

func (m *memory) RemoveAll(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.afs.RemoveAll(path)
}

func (m *memory) Rename(oldname, newname string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.afs.Rename(oldname, newname)
}

func (m *memory) Stat(name string) (os.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.afs.Stat(name)
}

func (m *memory) Chmod(name string, mode os.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.afs.Chmod(name, mode)
}

func (m *memory) Chown(name string, uid, gid int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.afs.Chown(name, uid, gid)
}

func (m *memory) Chtimes(name string, atime, mtime time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.afs.Chtimes(name, atime, mtime)
}
