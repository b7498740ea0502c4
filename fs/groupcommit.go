package fs

import (
	"context"
	"sync"
	"time"
)

// groupCommit syncs small files together that are committed at the same time: it begins to
// write all of them, and then syncs each. Data that the filesystem keeps for several files
// in one place (inodes, the journal) is then written once, not with each file.
//
// While one group is under way, further commits gather in the next. A group lasts until its
// files have their names and the directory is synced. A rename during the syncs of other
// files would add a write of the directory to each. A file that the disk does not write
// delays the others by maxGroupTime at most.
type groupCommit struct {
	running slots // one: held by the group under way

	mu   sync.Mutex
	next *group // the group that has not begun, or nil
}

const (
	// minGroup is how many commits must be under way. With fewer, the waits cost more
	// than they save.
	minGroup = 8

	// maxGrouped is the size of the largest file in a group.
	maxGrouped = 256 << 10

	// maxGroupTime bounds the wait for other files. A disk that keeps up takes less.
	maxGroupTime = 50 * time.Millisecond
)

// group is a set of files that are synced together.
type group struct {
	files  []*groupedFile
	ready  chan struct{} // closed when the files are synced, or maxGroupTime has passed
	synced chan struct{} // receives once for each file
	left   chan struct{} // receives once for each file
}

// groupedFile is a file of a group. The group and the goroutine that commits the file both
// sync it; the first one does the work.
type groupedFile struct {
	*pending
	beginOnce, syncOnce sync.Once
	err                 error
}

func (f *groupedFile) begin() {
	f.beginOnce.Do(func() { f.err = f.store.writeBack(f.file(), 0, maxGrouped) })
}

func (f *groupedFile) sync() error {
	f.syncOnce.Do(func() {
		f.begin()
		if f.err == nil {
			f.err = f.pending.sync()
		}
	})
	return f.err
}

func newGroupCommit() *groupCommit { return &groupCommit{running: make(slots, 1)} }

// sync syncs p together with other files. The caller must call leave, also after an error,
// when the file has its name or will never have it.
func (c *groupCommit) sync(p *pending) (leave func(), err error) {
	f := &groupedFile{pending: p}
	g, first := c.join(f)
	if first {
		c.start(g)
	}
	<-g.ready
	return func() { g.left <- struct{}{} }, f.sync()
}

func (c *groupCommit) join(f *groupedFile) (g *group, first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == nil {
		c.next = &group{ready: make(chan struct{})}
	}
	g = c.next
	g.files = append(g.files, f)
	return g, len(g.files) == 1
}

// start starts g when the group before it has ended.
func (c *groupCommit) start(g *group) {
	c.running.acquire()
	c.mu.Lock()
	c.next = nil
	c.mu.Unlock()
	g.synced, g.left = make(chan struct{}, len(g.files)), make(chan struct{}, len(g.files))
	go g.syncFiles()
	go func() {
		defer c.running.release()
		ctx, cancel := context.WithTimeout(context.Background(), maxGroupTime)
		defer cancel()
		g.await(ctx, g.synced)
		close(g.ready)
		g.await(ctx, g.left)
	}()
}

// syncFiles, and the goroutines that it starts, end when each file is synced. The commit of
// the file waits for that.
func (g *group) syncFiles() {
	for _, f := range g.files {
		f.begin()
	}
	for _, f := range g.files {
		go func() {
			f.sync()
			g.synced <- struct{}{}
		}()
	}
}

// await receives once for each file, or until ctx is done.
func (g *group) await(ctx context.Context, each <-chan struct{}) {
	for range g.files {
		select {
		case <-each:
		case <-ctx.Done():
			return
		}
	}
}
