package transport

import "testing"

func TestPoolWithoutLimit(t *testing.T) {
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
