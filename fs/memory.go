package fs

import (
	"os"
	"sync"

	"github.com/spf13/afero"
)

// NewMemory returns a filesystem in memory, for tests and for files that need not outlive the
// process:
//
//	mem := fs.NewMemory()
//	store, err := fs.New(mem, "/save")
//
// It is safe for concurrent use. An open file is for one goroutine; several open files of
// one name may be used at a time.
//
// It is afero's MemMapFs behind a lock: in a plain MemMapFs two goroutines can both succeed
// with O_EXCL, and two renames of one file can deadlock.
func NewMemory() afero.Fs { return &memory{Fs: afero.NewMemMapFs()} }

// memory locks the calls that change names. MemMapFs itself locks the others.
type memory struct {
	mu sync.Mutex
	afero.Fs
}

func (m *memory) Create(name string) (afero.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Fs.Create(name)
}

func (m *memory) Mkdir(name string, perm os.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Fs.Mkdir(name, perm)
}

func (m *memory) MkdirAll(path string, perm os.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Fs.MkdirAll(path, perm)
}

func (m *memory) OpenFile(name string, flag int, perm os.FileMode) (afero.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Fs.OpenFile(name, flag, perm)
}

func (m *memory) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Fs.Remove(name)
}

func (m *memory) RemoveAll(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Fs.RemoveAll(path)
}

func (m *memory) Rename(oldname, newname string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Fs.Rename(oldname, newname)
}
