package admin

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/accio-go/accio/stage"
)

// arrive has a connection of that number arrive.
func arrive(t testing.TB, tab *table, number uint64) *connection {
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	c := stage.NewConn(ours, number)
	c.Counter = new(stage.Counter)
	return tab.accepted(c).(*connection)
}

// bring has n bytes pass.
func (c *connection) bring(n int) {
	c.counter.Passed(n, nil)
	c.Passed(n)
}

func numbers(list []*connection) (all []uint64) {
	for _, c := range list {
		all = append(all, c.number)
	}
	return all
}

func TestTable(t *testing.T) {
	tab := newTable(newDurations(), true)
	conns := map[uint64]*connection{}
	for _, n := range []uint64{1, 3, 2, 6, 5, 4} { // as goroutines may have it
		conns[n] = arrive(t, tab, n)
	}
	expect := func(before uint64, n int, wantMore bool, want ...uint64) {
		t.Helper()
		list, open, more := tab.newestBefore(before, n)
		if got := numbers(list); !slices.Equal(got, want) || more != wantMore || open != tab.inFlight() {
			t.Errorf("before %d up to %d: %v (more: %v) of %d; want %v (%v) of %d", before, n, got, more, open, want, wantMore, tab.inFlight())
		}
	}
	expect(0, 10, false, 6, 5, 4, 3, 2, 1)
	expect(0, 6, false, 6, 5, 4, 3, 2, 1)
	expect(0, 2, true, 6, 5)
	expect(5, 2, true, 4, 3)
	expect(3, 2, false, 2, 1)
	expect(1, 2, false)
	for _, n := range []uint64{6, 1, 3} { // at both ends and in the middle
		conns[n].Ended(nil)
	}
	expect(0, 10, false, 5, 4, 2)
	arrive(t, tab, 7).Ended(stage.ErrIdle)
	for _, n := range []uint64{4, 5, 2} {
		conns[n].Ended(stage.ErrReset)
	}
	expect(0, 10, false)
	if tab.newest != nil {
		t.Error("an empty table is not empty")
	}
	var got []uint64
	for _, e := range tab.last() {
		got = append(got, e.number)
	}
	if want := []uint64{2, 5, 4, 7, 3, 1, 6}; !slices.Equal(got, want) {
		t.Errorf("they ended as %v, want %v", got, want)
	}
	for range 2 * recentSize {
		arrive(t, tab, 8).Ended(nil)
	}
	if last := tab.last(); len(last) != recentSize || last[recentSize-1].number != 8 {
		t.Errorf("it remembers %d", len(last))
	}
}

func TestTableOfMany(t *testing.T) {
	tab := newTable(newDurations(), true)
	var sam sampler
	const workers, rounds = 8, 200
	stop := make(chan struct{})
	var looking, wg sync.WaitGroup
	looking.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				sam.look(tab, time.Now())
				tab.newestBefore(0, 10)
				tab.last()
			}
		}
	})
	for w := range workers {
		wg.Go(func() {
			for i := range rounds {
				c := arrive(t, tab, uint64(1+w+i*workers))
				c.HandshakeDone()
				c.bring(10)
				c.Received()
				c.Ended(nil)
			}
		})
	}
	wg.Wait()
	close(stop)
	looking.Wait()
	const want = workers * rounds
	if n := tab.outcomes[stage.OutcomeReceived].Load(); n != want || tab.bytes.Load() != 10*want || tab.inFlight() != 0 || tab.newest != nil {
		t.Errorf("%d received, %d bytes, %d left; want %d, %d and none", n, tab.bytes.Load(), tab.inFlight(), want, 10*want)
	}
}

// observed is how often a histogram was told something, and the sum of it.
func observed(t *testing.T, h prometheus.Histogram) (n uint64, sum float64) {
	var m dto.Metric
	if err := h.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.Histogram.GetSampleCount(), m.Histogram.GetSampleSum()
}

func TestDurations(t *testing.T) {
	for _, tt := range []struct {
		name                        string
		commits, shaken, received   bool
		err                         error
		handshake, transfer, commit float64 // -1: there is none
	}{
		{"received", true, true, true, nil, 1, 2, 4},
		{"not to be stored", true, true, true, stage.ErrStorage, 1, 2, 4},
		{"nothing to commit", false, true, true, nil, 1, 2, -1},
		{"cut off", true, true, false, stage.ErrReset, 1, -1, -1},
		{"silent", true, false, false, stage.ErrIdle, -1, -1, -1},
		{"no handshake", true, false, true, nil, -1, 3, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tab := newTable(newDurations(), tt.commits)
				c := arrive(t, tab, 1)
				words := []string{c.stage()}
				time.Sleep(time.Second)
				if tt.shaken {
					c.HandshakeDone()
					words = append(words, c.stage())
				}
				time.Sleep(2 * time.Second)
				if tt.received {
					c.Received()
					words = append(words, c.stage())
				}
				time.Sleep(4 * time.Second)
				c.Ended(tt.err)
				for _, part := range []struct {
					name string
					h    prometheus.Histogram
					want float64
				}{{"handshake", tab.handshake, tt.handshake}, {"transfer", tab.transfer, tt.transfer}, {"commit", tab.commit, tt.commit}} {
					n, sum := observed(t, part.h)
					if part.want < 0 && n != 0 || part.want >= 0 && (n != 1 || sum != part.want) {
						t.Errorf("%s: %d times, %v s; want %v s", part.name, n, sum, part.want)
					}
				}
				if took := tab.last()[0].took; took != 7*time.Second {
					t.Errorf("it took %v", took)
				}
				want := []string{"handshake"}
				if tt.shaken {
					want = append(want, "transfer")
				}
				if tt.received {
					want = append(want, "commit")
				}
				if !slices.Equal(words, want) {
					t.Errorf("its stages were %q, want %q", words, want)
				}
			})
		})
	}
}

func TestSampler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tab := newTable(newDurations(), true)
		var sam sampler
		look := func() { sam.look(tab, time.Now()) }
		expect := func(c *connection, want ...float64) {
			t.Helper()
			if !slices.Equal(c.history, want) {
				t.Errorf("the rates of %d are %v, want %v", c.number, c.history, want)
			}
		}
		a := arrive(t, tab, 1)
		a.bring(1000)
		time.Sleep(time.Minute)
		look()
		expect(a) // nobody has watched
		a.bring(500)
		time.Sleep(time.Second / 2)
		b := arrive(t, tab, 2)
		b.bring(300)
		time.Sleep(time.Second / 2)
		look()
		expect(a, 500)
		expect(b, 600)
		time.Sleep(2 * time.Second) // the machine is busy
		a.bring(500)
		look()
		expect(a, 500, 250)
		expect(b, 600, 0)
		c := arrive(t, tab, 3)
		c.bring(100)
		time.Sleep(time.Second / 1000)
		look()
		expect(c, 1000) // and not a hundred times as much
		for i := range historySize {
			time.Sleep(time.Second)
			c.bring(i)
			look()
		}
		if n := len(c.history); n != historySize || c.history[0] != 0 || c.history[n-1] != historySize-1 {
			t.Errorf("of a minute there is %v", c.history)
		}
		time.Sleep(time.Hour)
		look()
		expect(a) // what was an hour ago is no longer of interest
		expect(c)
	})
}

// told is what a chain in which a layer tells addr shows of the peer before that, after, and
// at the end.
func told(t *testing.T, addr net.Addr, others int) (before, after, end string) {
	t.Helper()
	s := newServer(t.Context(), Config{})
	defer s.Close()
	shown := func() string {
		list, _, _ := s.table.newestBefore(2, 1)
		return s.describe(list[0], time.Now()).Peer
	}
	chain := s.Stage(stage.Chain{stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
		for i := range others { // have come meanwhile
			arrive(t, s.table, uint64(i+2))
		}
		before = shown()
		c.Net = layer{c.Net, addr}
		return nil, nil
	})})
	ours, theirs := net.Pipe()
	defer theirs.Close()
	stage.Serve(t.Context(), ours, 1, chain.Then(stage.HandlerFunc(func(context.Context, *stage.Conn) error {
		after = shown()
		return stage.ErrIdle
	})))
	if n := len(s.table.rows); n != others {
		t.Errorf("%d rows are left, want %d", n, others)
	}
	return before, after, s.table.last()[0].describe().Peer
}

// A layer knows better who the peer is, and is believed from then on: before any handshake.
func TestPeer(t *testing.T) {
	before, after, end := told(t, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 7}, 3)
	if before != "pipe" || after != "192.0.2.7:7" || end != after {
		t.Errorf("at first it is %q, then %q, at last %q", before, after, end)
	}
}

// Nobody pays for layers that are not there, and these are there if nobody watches.
func TestStageWithoutLayersOrServer(t *testing.T) {
	s := newServer(t.Context(), Config{})
	defer s.Close()
	if chain := s.Stage(nil); len(chain) != 1 || s.table.rows != nil {
		t.Errorf("without layers: %d stages, rows: %v", len(chain), s.table.rows != nil)
	}
	if chain := (*Server)(nil).Stage(stage.Chain{stage.Count{}}); len(chain) != 1 || chain[0] != (stage.Count{}) {
		t.Errorf("without a server: %v", chain)
	}
}

// A proxy tells what it likes of a client's Unix socket.
func TestPeersAreEscaped(t *testing.T) {
	const hostile, escaped = "/run/x\n\x1b[2J\x00\x9b\u202e", `/run/x\n\x1b[2J\x00\x9b\u202e`
	_, after, end := told(t, &net.UnixAddr{Net: "unix", Name: hostile}, 0)
	if after != escaped || end != escaped {
		t.Errorf("under way it is %q, at last %q, want %q", after, end, escaped)
	}
}

type layer struct {
	net.Conn
	addr net.Addr
}

func (l layer) RemoteAddr() net.Addr { return l.addr }

// What a connection costs more for being watched.
func BenchmarkConnection(b *testing.B) {
	tab := newTable(newDurations(), true)
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	conn := stage.NewConn(ours, 1)
	conn.Counter = new(stage.Counter)
	b.ReportAllocs()
	for b.Loop() {
		o := tab.accepted(conn)
		o.HandshakeDone()
		o.Passed(1)
		o.Received()
		o.Ended(nil)
	}
}

func BenchmarkPassed(b *testing.B) {
	c := arrive(b, newTable(newDurations(), true), 1)
	for b.Loop() {
		c.Passed(1)
	}
}
