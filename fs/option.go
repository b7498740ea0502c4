package fs

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
)

// Option changes how a Store of [OpenDir] or [New] works.
type Option func(*options)

type options struct {
	durability Durability
	noReplace  bool
	onWarning  func(error)
	warned     sync.Once
}

func newOptions(opts []Option) *options {
	o := new(options)
	for _, opt := range opts {
		opt(o)
	}
	return o
}

// Durability is the protection of committed files against a loss of power. A killed
// process loses nothing that was committed, with any Durability.
type Durability string

const (
	// Full: the file is there and complete.
	Full Durability = "full"

	// File: the file is complete, or the state before the commit is there. The Store
	// syncs files, and not the directory.
	File Durability = "file"

	// None: an empty file or a part of one may be there. The Store syncs nothing.
	None Durability = "none"
)

// UnmarshalText accepts "full", "file" and "none".
func (d *Durability) UnmarshalText(text []byte) error {
	switch v := Durability(text); v {
	case Full, File, None:
		*d = v
		return nil
	}
	return fmt.Errorf("unknown durability %q: not full, file or none", text)
}

// WithDurability sets the Durability of commits. The default is [Full].
func WithDurability(d Durability) Option {
	return func(o *options) { o.durability = d }
}

func (o *options) syncsFiles() bool { return o.durability != None }
func (o *options) syncsNames() bool { return o.durability != None && o.durability != File }

// NoReplace makes a Commit fail with an os.ErrExist if its name is taken. The earlier file
// stays, and nothing is left of the new one. By then the Store has synced the earlier
// file's name, as far as its Durability requires it, and no other commit of this Store to
// that name is under way. So the caller may rely on the earlier file if names are made of
// contents.
//
// On a disk this also holds between Stores and processes. A Store of [New] checks the
// name before it renames, so no other process may use the directory. The same holds on
// a filesystem with neither renameat2(2) RENAME_NOREPLACE nor hard links.
func NoReplace() Option {
	return func(o *options) { o.noReplace = true }
}

// OnWarning sets a function that is called at most once, when the filesystem cannot sync a
// directory or a file: EINVAL or ENOTSUP (fsync(2)). The commit succeeds then, since that
// filesystem offers nothing better. Without OnWarning, a commit still ignores the error
// for a directory, but not for a file.
//
// A Commit or Close waits for warn, which must not use the Store.
func OnWarning(warn func(error)) Option {
	return func(o *options) { o.onWarning = warn }
}

// cannotSync reports whether err, of a sync, says that the filesystem has no sync. Any other
// error is a failure. Another attempt would prove nothing, since the system drops data that
// it could not write (fsync(2), and errseq_t in the kernel's documentation).
func cannotSync(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP)
}

// dirSyncError returns the error of a commit if the sync of the directory returned err.
func (o *options) dirSyncError(err error) error {
	if err == nil || !cannotSync(err) {
		return err
	}
	if o.onWarning != nil {
		o.warned.Do(func() {
			o.onWarning(fmt.Errorf("the filesystem cannot sync, so files may not survive a loss of power: %w", err))
		})
	}
	return nil
}

// fileSyncError returns the error of a commit if the sync of a file returned err.
func (o *options) fileSyncError(err error) error {
	if o.onWarning == nil {
		return err
	}
	return o.dirSyncError(err)
}
