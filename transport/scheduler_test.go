package transport

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestAPoolHasSoManySlots(t *testing.T) {
	pools := []struct {
		name  string
		pool  func() *Pool
		slots int
	}{
		{"as it was made for", func() *Pool { return NewPool(3) }, 3},
		{"if it be one", func() *Pool { return NewPool(1) }, 1},
		{"which is one if it is sequential", Sequential, 1},
	}
	for _, p := range pools {
		t.Run(p.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pool := p.pool()
				ctx, cancel := context.WithCancel(t.Context())
				var acquired atomic.Int32
				ended := make(chan error, p.slots+2)
				for range p.slots + 2 {
					go func() {
						err := pool.Acquire(ctx)
						if err == nil {
							acquired.Add(1)
						}
						ended <- err
					}()
				}
				synctest.Wait()
				if got := acquired.Load(); int(got) != p.slots {
					t.Fatalf("%d were acquired, want %d", got, p.slots)
				}
				pool.Release()
				synctest.Wait()
				if got := acquired.Load(); int(got) != p.slots+1 {
					t.Errorf("after a release %d were acquired, want %d", got, p.slots+1)
				}
				cancel()
				synctest.Wait()
				var errs []error
				for range p.slots + 2 {
					if err := <-ended; err != nil {
						errs = append(errs, err)
					}
				}
				if len(errs) != 1 || !errors.Is(errs[0], context.Canceled) {
					t.Errorf("who still waited got %v", errs)
				}
			})
		})
	}
}

func TestAPoolWithoutALimitHasASlotForAll(t *testing.T) {
	for _, n := range []int{0, -1} {
		pool := NewPool(n)
		for range 10_000 {
			if err := pool.Acquire(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for range 10_000 {
			pool.Release()
		}
	}
}

func TestNoSlotIsToBeHadOnceTheContextIsDone(t *testing.T) {
	done, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for _, n := range []int{0, 1, 5} {
		pool := NewPool(n)
		for range 100 { // a slot is free all the time
			if err := pool.Acquire(done); err != context.Canceled {
				t.Fatalf("of %d: Acquire = %v", n, err)
			}
			if err := pool.Acquire(late); err != context.DeadlineExceeded {
				t.Fatalf("of %d: Acquire = %v", n, err)
			}
		}
	}
}
