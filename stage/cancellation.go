package stage

import (
	"context"
	"sync"
)

// cancellation interrupts connections when their context is cancelled: one for all
// of a context, so that each costs a place in a map only.
type cancellation struct {
	done  <-chan struct{}
	stop  func() bool
	conns map[*Conn]struct{}
}

// cancellations are all that have a connection. Contexts that are done together share
// one.
var cancellations struct {
	sync.Mutex
	of map[<-chan struct{}]*cancellation
}

// link has c interrupted when ctx is cancelled, until unlink is called.
func (c *Conn) link(ctx context.Context) {
	done := ctx.Done()
	if done == nil {
		return
	}
	if ctx.Err() != nil { // or it might be done before that is noticed
		c.interrupt(because(ErrShutdown, context.Cause(ctx)))
		return
	}
	cancellations.Lock()
	defer cancellations.Unlock()
	all := cancellations.of[done]
	if all == nil {
		if cancellations.of == nil {
			cancellations.of = make(map[<-chan struct{}]*cancellation)
		}
		all = &cancellation{done: done, conns: make(map[*Conn]struct{})}
		cancellations.of[done] = all
		all.stop = context.AfterFunc(ctx, func() { all.interrupt(because(ErrShutdown, context.Cause(ctx))) })
	}
	c.linked = all
	all.conns[c] = struct{}{}
}

// unlink ends that.
func (c *Conn) unlink() {
	all := c.linked
	if all == nil {
		return
	}
	c.linked = nil
	cancellations.Lock()
	defer cancellations.Unlock()
	delete(all.conns, c)
	if len(all.conns) == 0 {
		all.stop()
		all.close()
	}
}

// interrupt interrupts all connections. Those that come from now on have another,
// which is as quick.
func (all *cancellation) interrupt(err error) {
	cancellations.Lock()
	defer cancellations.Unlock()
	all.close()
	for c := range all.conns {
		c.interrupt(err)
	}
}

// close lets no more connections in. cancellations is locked.
func (all *cancellation) close() {
	if cancellations.of[all.done] == all {
		delete(cancellations.of, all.done)
	}
}
