package admin

import (
	"math"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/accio-go/accio/stage"
)

const (
	// samplePeriod is the time between two samples.
	samplePeriod = time.Second

	// historySize bounds the rates kept of a connection: one minute.
	historySize = 60

	// recentSize bounds the ended connections kept.
	recentSize = 50
)

// table holds the open connections, in order of acceptance, and the last ended ones. It is
// safe for concurrent use. A connection costs one object, a list entry (and a map entry, if
// layers change addresses), and an atomic store for each phase. A transfer costs one
// atomic addition.
type table struct {
	started time.Time
	commits bool // connections have a commit phase

	bytes    atomic.Int64
	outcomes []atomic.Uint64 // by stage.Outcome
	*durations

	mu     sync.Mutex
	newest *connection
	rows   map[uint64]*connection // by number, if layers change addresses; or nil
	open   int
	recent [recentSize]ended // a ring
	past   int               // number of ended connections
}

func newTable(d *durations, commits bool) *table {
	return &table{started: time.Now(), commits: commits, durations: d, outcomes: make([]atomic.Uint64, len(stage.Outcomes()))}
}

// connection is an open connection, and its stage.Observer.
type connection struct {
	table   *table
	number  uint64
	counter *stage.Counter
	begun   time.Time
	addr    net.Addr

	told       atomic.Pointer[net.Addr] // address from a layer
	handshaken atomic.Int64             // duration since begun, or 0
	received   atomic.Int64             // likewise

	older, newer *connection // guarded by table.mu

	progress // guarded by the sampler
}

// ended is a connection that has ended.
type ended struct {
	number  uint64
	peer    net.Addr
	outcome stage.Outcome
	err     error
	bytes   int64
	took    time.Duration
	at      time.Time
}

// accepted is Accepted of stage.Observe.
func (t *table) accepted(c *stage.Conn) stage.Observer {
	o := &connection{table: t, number: c.Number, counter: c.Counter, begun: time.Now(), addr: c.Net.RemoteAddr()}
	t.mu.Lock()
	defer t.mu.Unlock()
	// Concurrent connections may come out of order.
	at := t.newest
	for at != nil && at.number > o.number {
		o.newer, at = at, at.older
	}
	o.older = at
	if o.older != nil {
		o.older.newer = o
	}
	if o.newer != nil {
		o.newer.older = o
	} else {
		t.newest = o
	}
	if t.rows != nil {
		t.rows[o.number] = o
	}
	t.open++
	return o
}

// learn stores the address that the layers found.
func (t *table) learn(c *stage.Conn) {
	addr := c.Net.RemoteAddr()
	t.mu.Lock()
	defer t.mu.Unlock()
	if o := t.rows[c.Number]; o != nil {
		o.told.Store(&addr)
	}
}

// since returns the age of c, which is never 0.
func (c *connection) since() time.Duration { return max(time.Since(c.begun), 1) }

// HandshakeDone stores the time.
func (c *connection) HandshakeDone() {
	took := c.since()
	if c.handshaken.CompareAndSwap(0, int64(took)) {
		c.table.handshake.Observe(took.Seconds())
	}
}

// Passed counts bytes.
func (c *connection) Passed(n int) { c.table.bytes.Add(int64(n)) }

// Received stores the time.
func (c *connection) Received() {
	now := c.since()
	c.received.Store(int64(now))
	c.table.transfer.Observe((now - time.Duration(c.handshaken.Load())).Seconds())
}

// Ended moves c to the ended connections.
func (c *connection) Ended(err error) {
	t := c.table
	e := ended{number: c.number, peer: c.peer(), err: err, bytes: c.counter.Count(), took: c.since(), at: time.Now()}
	e.outcome = stage.OutcomeOf(err, e.bytes)
	t.outcomes[e.outcome].Add(1)
	if r := time.Duration(c.received.Load()); r != 0 && t.commits {
		t.commit.Observe((e.took - r).Seconds())
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.older != nil {
		c.older.newer = c.newer
	}
	if c.newer != nil {
		c.newer.older = c.older
	} else {
		t.newest = c.older
	}
	delete(t.rows, c.number)
	t.open--
	t.recent[t.past%recentSize] = e
	t.past++
}

func (c *connection) peer() net.Addr {
	if told := c.told.Load(); told != nil {
		return *told
	}
	return c.addr
}

// stage returns the phase of c. The words are part of the API.
func (c *connection) stage() string {
	switch {
	case c.received.Load() != 0:
		return "commit"
	case c.handshaken.Load() != 0:
		return "transfer"
	}
	return "handshake"
}

// inFlight returns the number of open connections.
func (t *table) inFlight() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open
}

// newestBefore returns up to n connections with numbers below before (0: all), newest
// first. It also returns the number of all, and whether there are older ones.
func (t *table) newestBefore(before uint64, n int) (list []*connection, open int, more bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	list = make([]*connection, 0, min(n, t.open))
	for c := t.newest; c != nil; c = c.older {
		if before != 0 && c.number >= before {
			continue
		}
		if len(list) == n {
			return list, t.open, true
		}
		list = append(list, c)
	}
	return list, t.open, false
}

// last returns the ended connections, newest first.
func (t *table) last() []ended {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := min(t.past, recentSize)
	list := make([]ended, 0, n)
	for i := t.past - 1; i >= t.past-n; i-- {
		list = append(list, t.recent[i%recentSize])
	}
	return list
}

// progress is the sampler's data of a connection.
type progress struct {
	looked  time.Time
	bytes   int64
	history []float64 // bytes per second, oldest first
}

// sampler measures the rates of connections. Its lock guards all progress.
type sampler struct {
	sync.Mutex
	last time.Time // time of the last sample
}

// look samples each connection of t, about once a samplePeriod while rates are needed.
func (s *sampler) look(t *table, now time.Time) {
	list, _, _ := t.newestBefore(0, math.MaxInt)
	s.Lock()
	defer s.Unlock()
	anew := now.Sub(s.last) > 3*samplePeriod // after a pause
	s.last = now
	for _, c := range list {
		bytes := c.counter.Count()
		from, had := c.looked, c.progress.bytes
		if from.IsZero() {
			from, had = c.begun, 0 // a new connection
		}
		c.looked, c.progress.bytes = now, bytes
		if anew {
			c.history = nil
			continue
		}
		if len(c.history) == historySize {
			c.history = slices.Delete(c.history, 0, 1)
		}
		// A new connection can transfer much in almost no time.
		c.history = append(c.history, float64(bytes-had)/max(now.Sub(from), samplePeriod/10).Seconds())
	}
}

var _ stage.Observer = (*connection)(nil)
