package fs

import (
	"sync"
	"sync/atomic"
)

// batches have small files that are committed at about the same time synced together:
// all are begun to be written, and then all are synced. What a filesystem keeps of
// several in one place (their inodes, its journal) is written once for all of them then,
// and not with each. While a batch is under way, others come together for the next. It is
// under way until its files have their names, and those are synced: if names changed
// while other files are synced, the directory would be written with each.
type batches struct {
	turn slots // the only one is held by the batch that is under way

	mu   sync.Mutex
	next *batch // which is not
}

// batch is some files. Those who commit them wait for each other, so none is large.
type batch struct {
	files  []*pendingFile
	synced chan struct{} // closed when they are
	left   atomic.Int64  // how many of them have not left the batch
}

// maxBatched is how large a file of a batch is.
const maxBatched = 256 << 10

func newBatches() *batches { return &batches{turn: make(slots, 1)} }

// sync syncs f with others. Whatever it returns, leave is to be called when f has its
// name, or never will.
func (bs *batches) sync(f *pendingFile) (leave func(), err error) {
	bs.mu.Lock()
	b := bs.next
	leads := b == nil
	if leads {
		b = &batch{synced: make(chan struct{})}
		bs.next = b
	}
	b.files = append(b.files, f)
	bs.mu.Unlock()
	if leads {
		bs.turn.acquire()
		bs.mu.Lock()
		bs.next = nil
		bs.mu.Unlock()
		b.left.Store(int64(len(b.files)))
		b.sync()
		close(b.synced)
	}
	<-b.synced
	return func() {
		if b.left.Add(-1) == 0 {
			bs.turn.release()
		}
	}, f.syncErr
}

func (b *batch) sync() {
	if len(b.files) == 1 {
		f := b.files[0]
		f.syncErr = f.sync()
		return
	}
	for _, f := range b.files {
		f.syncErr = pushOut(f.file, 0, maxBatched)
	}
	var syncs sync.WaitGroup
	for _, f := range b.files {
		syncs.Go(func() {
			if err := f.sync(); err != nil {
				f.syncErr = err
			}
		})
	}
	syncs.Wait()
}
