package fs

import (
	"sync"
	"sync/atomic"
	"time"
)

// batches have small files synced together if many are committed at the same time: all are
// begun to be written, and then all are synced. What a filesystem keeps of several
// in one place (their inodes, its journal) is written once for all of them then, and not with
// each. While a batch is under way, others come together for the next. It is under way
// until its files have their names, and those are synced: if names changed while other
// files are synced, the directory would be written with each. But a file that the disk
// does not write holds nobody up: a batch lasts no longer than batchLimit.
type batches struct {
	turn slots // the only one is held by the batch that is under way

	mu   sync.Mutex
	next *batch // which is not
}

const (
	// minBatched is how many files are to be committed at the same time: to wait for each
	// other takes fewer of them longer than it saves.
	minBatched = 8

	// maxBatched is how large a file of a batch is.
	maxBatched = 256 << 10

	// batchLimit is how long one waits for others. A disk that takes longer is not held
	// up by the processor.
	batchLimit = 50 * time.Millisecond
)

type batch struct {
	files          []*batched
	unsynced, left atomic.Int64  // how many are yet to be synced, or have yet to leave
	synced         chan struct{} // closed when nobody is to be waited for any longer
	release        func()        // closes it
	end            func()        // lets the next batch begin
	limit          *time.Timer   // calls end
}

// batched is a file of a batch. It is begun, and synced, by whoever comes to it first: the
// batch or, if that is held up, who commits it.
type batched struct {
	*pendingFile
	begun, done sync.Once
	err         error
}

func (f *batched) begin() { f.begun.Do(func() { f.err = f.store.push(f.File(), 0, maxBatched) }) }

func (f *batched) finish() error {
	f.done.Do(func() {
		f.begin()
		if f.err == nil {
			f.err = f.sync()
		}
	})
	return f.err
}

func newBatches() *batches { return &batches{turn: make(slots, 1)} }

// sync syncs a file with others. Whatever it returns, leave is to be called when the file
// has its name, or never will.
func (bs *batches) sync(p *pendingFile) (leave func(), err error) {
	f := &batched{pendingFile: p}
	b, first := bs.join(f)
	if first {
		bs.lead(b)
	}
	<-b.synced
	return b.leave, f.finish()
}

func (bs *batches) join(f *batched) (b *batch, first bool) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if bs.next == nil {
		bs.next = bs.newBatch()
	}
	b = bs.next
	b.files = append(b.files, f)
	return b, len(b.files) == 1
}

func (bs *batches) newBatch() *batch {
	b := &batch{synced: make(chan struct{})}
	b.release = sync.OnceFunc(func() { close(b.synced) })
	b.end = sync.OnceFunc(func() { b.release(); bs.turn.release() })
	return b
}

// lead has b begin in its turn.
func (bs *batches) lead(b *batch) {
	bs.turn.acquire()
	bs.mu.Lock()
	bs.next = nil
	bs.mu.Unlock()
	n := int64(len(b.files))
	b.unsynced.Store(n)
	b.left.Store(n)
	b.limit = time.AfterFunc(batchLimit, b.end)
	go b.run()
}

// run, and what it starts, ends when each file has been synced, for which who commits it
// waits.
func (b *batch) run() {
	for _, f := range b.files {
		f.begin()
	}
	for _, f := range b.files {
		go func() {
			f.finish()
			if b.unsynced.Add(-1) == 0 {
				b.release()
			}
		}()
	}
}

func (b *batch) leave() {
	if b.left.Add(-1) == 0 {
		b.limit.Stop()
		b.end()
	}
}
