package groupsync

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// gate is a sync that ends when the test says so, and how it says.
type gate struct {
	begun chan int // the number of the sync that has begun, from 1
	end   chan error
	count int
}

func newGate() *gate { return &gate{begun: make(chan int), end: make(chan error)} }

func (g *gate) sync() error {
	g.count++ // syncs are one after the other, and the race detector knows if not
	g.begun <- g.count
	return <-g.end
}

// blockedIn counts the goroutines that wait for others below all of the
// functions. Of who waits for a sync.Mutex no other sign is to be had.
func blockedIn(functions ...string) (count int) {
	buf := make([]byte, 1<<20)
next:
	for stack := range bytes.SplitSeq(buf[:runtime.Stack(buf, true)], []byte("\n\n")) {
		state, frames, _ := bytes.Cut(stack, []byte("\n"))
		if !waits.Match(state) {
			continue
		}
		for _, function := range functions {
			if !bytes.Contains(frames, []byte(function)) {
				continue next
			}
		}
		count++
	}
	return count
}

var waits = regexp.MustCompile(`\[(sync\.|chan |select)`)

// awaitInSync returns when n goroutines share a sync that has not begun, or
// wait in the sync function.
func awaitInSync(n int) {
	for blockedIn("(*Group).Sync(", "sync.(*Once).doSlow(") != n {
		runtime.Gosched()
	}
}

func TestGroupSharesNextSync(t *testing.T) {
	const callers = 50
	first, second := errors.New("first"), errors.New("second")
	tests := []struct {
		name string
		ends [4]error // of the syncs one after the other
	}{
		{"and all is well", [4]error{}},
		{"and its error, which is not that of the one under way", [4]error{nil, second, nil, nil}},
		{"and not the error of the one under way", [4]error{first, nil, nil, nil}},
		{"and each its own error", [4]error{first, second, nil, nil}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			gate := newGate()
			group := New(gate.sync)
			ask := func(results chan<- error) { results <- group.Sync() }

			alone, shared := make(chan error, 1), make(chan error, callers)
			go ask(alone)
			<-gate.begun
			for range callers {
				go ask(shared)
			}
			awaitInSync(1 + callers)
			if len(alone)+len(shared) != 0 {
				t.Error("somebody has returned while the first sync is under way")
			}
			gate.end <- test.ends[0]
			if err := <-alone; err != test.ends[0] {
				t.Errorf("the first got %v", err)
			}
			<-gate.begun
			if len(shared) != 0 {
				t.Error("somebody who asked during the first sync has returned before the second ended")
			}
			gate.end <- test.ends[1]
			for range callers {
				if err := <-shared; err != test.ends[1] {
					t.Errorf("one of the others got %v", err)
				}
			}
			for i := 2; i < len(test.ends); i++ {
				go ask(alone)
				if n := <-gate.begun; n != i+1 {
					t.Fatalf("%d callers shared more than one sync: this is number %d", callers, n)
				}
				gate.end <- test.ends[i]
				if err := <-alone; err != test.ends[i] {
					t.Errorf("a later one got %v", err)
				}
			}
		})
	}
}

func TestGroupSyncBeginsAfterCall(t *testing.T) {
	const callers, rounds = 16, 300
	var begun, ended, failed atomic.Int64
	failure := make([]atomic.Bool, callers*rounds+2)
	group := New(func() error {
		n := begun.Add(1)
		runtime.Gosched()
		defer ended.Store(n)
		if n%7 == 0 {
			failure[n].Store(true)
			return errors.New("failed")
		}
		return nil
	})
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range rounds {
				before := begun.Load()
				err := group.Sync()
				after := ended.Load()
				if after <= before {
					t.Errorf("%d syncs had begun at the call, and at the return %d had ended", before, after)
				}
				// It was one of these, and its error is to be one of theirs.
				some, all := false, true
				for n := before + 1; n <= after; n++ {
					some = some || failure[n].Load()
					all = all && failure[n].Load()
				}
				if err != nil {
					failed.Add(1)
				}
				if err != nil && !some || err == nil && all {
					t.Errorf("got %v of the syncs from %d to %d", err, before+1, after)
				}
			}
		})
	}
	wg.Wait()
	if failed.Load() == 0 {
		t.Error("no failure was reported")
	}
	if got := begun.Load(); got > callers*rounds {
		t.Errorf("%d syncs for %d calls", got, callers*rounds)
	}
}

// The one who syncs for all must not leave the others in the belief that it
// has been done.
func TestGroupPanic(t *testing.T) {
	gate := newGate()
	panics := false
	group := New(func() error {
		err := gate.sync()
		if panics {
			panic("sync")
		}
		return err
	})
	results := make(chan error, 3)
	ask := func() {
		defer func() {
			if v := recover(); v != nil {
				results <- fmt.Errorf("panic: %v", v)
			}
		}()
		results <- group.Sync()
	}
	go ask()
	<-gate.begun
	go ask()
	go ask()
	awaitInSync(3)
	gate.end <- nil
	<-results
	<-gate.begun
	panics = true
	gate.end <- nil
	for range 2 {
		if err := <-results; err == nil {
			t.Error("one of those who shared it took it for a success")
		}
	}
}

func TestGroupMark(t *testing.T) {
	failure := errors.New("failed")
	err := failure
	group := New(func() error { return err })
	before := group.Mark()
	if group.Sync(); before.Err() != failure {
		t.Errorf("a mark before the failure: %v", before.Err())
	}
	after := group.Mark()
	err = nil
	if err := group.SyncSince(before); err != failure {
		t.Errorf("SyncSince a mark before the failure: %v", err)
	}
	if err := group.SyncSince(after); err != nil {
		t.Errorf("SyncSince a mark after the failure: %v", err)
	}
}
