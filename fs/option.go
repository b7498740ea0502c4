package fs

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
)

// Option is how a Store of [OpenDir] or [New] is to differ from one without.
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

// Durability is what a Commit that has returned promises of a loss of power. A
// process that is killed loses nothing of what was committed, whatever it is.
type Durability int

const (
	// Full: the file is there, and whole.
	Full Durability = iota

	// File: what is there is whole, but it may be what was there before, or nothing:
	// the sync of the directory is left out.
	File

	// None: anything may be there, also an empty file or a part of it: nothing is
	// synced.
	None
)

var durabilities = [...]string{Full: "full", File: "file", None: "none"}

// ErrDurability is returned for a word that stands for no [Durability].
var ErrDurability = errors.New("not full, file or none")

// String returns the word that UnmarshalText reads.
func (d Durability) String() string {
	if d < 0 || int(d) >= len(durabilities) {
		return fmt.Sprintf("Durability(%d)", int(d))
	}
	return durabilities[d]
}

// UnmarshalText reads "full", "file" or "none"; all else is an [ErrDurability].
func (d *Durability) UnmarshalText(text []byte) error {
	for i, word := range durabilities {
		if word == string(text) {
			*d = Durability(i)
			return nil
		}
	}
	return fmt.Errorf("%w: %q", ErrDurability, text)
}

// WithDurability has commits of a Store be as durable as d; otherwise they are
// [Full].
func WithDurability(d Durability) Option {
	return func(o *options) { o.durability = d }
}

// NoReplace has a Commit fail, with an os.ErrExist, if there is something under the
// name already; that stays as it is, and nothing of the new file is left. It is no commit
// of this Store that is still under way, and its name has been synced as that of the new file
// would have been: whoever takes it for the same, since the name is made of what a file
// holds, may rely on it. On a disk
// the system decides it, so it also holds between Stores and processes; a Store of
// [New], or one on a filesystem that knows neither renameat2(2) with RENAME_NOREPLACE
// nor hard links, looks before it renames, and others must not use the directory.
func NoReplace() Option {
	return func(o *options) { o.noReplace = true }
}

// OnWarning has warn called, once in the life of a Store at the most, with the error
// by which the filesystem has said that it cannot sync a directory or a file: EINVAL
// or ENOTSUP (fsync(2)). That is no failure of a commit then, since there is nothing
// more to be had of such a filesystem. Without this option that goes for a directory
// only, and unsaid; a file that cannot be synced is one that cannot be committed.
//
// warn is called by whoever commits, or closes the Store, who waits for it; it is not to use
// the Store.
func OnWarning(warn func(error)) Option {
	return func(o *options) { o.onWarning = warn }
}

// ErrCannotSync is what a warning of [OnWarning] is of.
var ErrCannotSync = errors.New("the filesystem cannot sync, and what is saved may not survive a loss of power")

// cannotSync reports whether err, of a sync, is that of a filesystem that cannot.
// Any other is a failure, and to try again would prove nothing: the system has
// forgotten what it could not write (fsync(2), and errseq_t in the kernel's
// documentation).
func cannotSync(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP)
}

// synced is what err, of the sync of the directory, is to a commit.
func (o *options) synced(err error) error {
	if err == nil || !cannotSync(err) {
		return err
	}
	if o.onWarning != nil {
		o.warned.Do(func() { o.onWarning(fmt.Errorf("%w: %w", ErrCannotSync, err)) })
	}
	return nil
}

// syncedFile is that for the sync of a file.
func (o *options) syncedFile(err error) error {
	if o.onWarning == nil {
		return err
	}
	return o.synced(err)
}
