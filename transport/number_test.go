package transport

import (
	"context"
	"sync"
	"testing"
)

func TestACounterCountsFromOne(t *testing.T) {
	c := NewCounter(0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // which is no reason to fail
	for want := range uint64(10) {
		if got, err := c.Next(ctx); got != want+1 || err != nil {
			t.Errorf("Next = %d, %v; want %d", got, err, want+1)
		}
	}
}

func TestCounterConcurrentUse(t *testing.T) {
	const askers, each = 50, 200
	c := NewCounter(0)
	var mu sync.Mutex
	seen := make(map[uint64]bool)
	var wg sync.WaitGroup
	for range askers {
		wg.Go(func() {
			last := uint64(0)
			for range each {
				n, _ := c.Next(t.Context())
				if n <= last {
					t.Errorf("%d came after %d", n, last)
				}
				last = n
				mu.Lock()
				seen[n] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != askers*each || !seen[1] || !seen[askers*each] {
		t.Errorf("%d numbers for %d calls", len(seen), askers*each)
	}
}

func TestCounterContinues(t *testing.T) {
	for _, after := range []uint64{0, 1, 41, 1<<63 + 5} {
		c := NewCounter(after)
		for i := range uint64(3) {
			if n, err := c.Next(t.Context()); n != after+1+i || err != nil {
				t.Errorf("after %d: %d, %v", after+i, n, err)
			}
		}
	}
}
