//go:build unix

package transport

import (
	"syscall"
	"testing"
)

// limitDescriptors has the process open fewer files, until the test ends.
// It is the process's, so such a test has the process to itself.
func limitDescriptors(t *testing.T, limit int) {
	t.Helper()
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	low := old
	setTo(&low.Cur, limit)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
			t.Error(err)
		}
	})
}

// The type of a limit differs from system to system.
func setTo[T int64 | uint64](limit *T, n int) { *limit = T(n) }

func TestMaxConnsReserve(t *testing.T) {
	tests := []struct {
		name                 string
		limit, perConn, want int
	}{
		{"one for each connection", 132, 1, 100},
		{"two for each connection", 132, 2, 50},
		{"three for each connection, and one over", 133, 3, 33},
		{"a limit that leaves a single connection", 34, 2, 1},
		{"a limit that leaves none is for one all the same", 33, 2, 1},
		{"a limit that does not do for the rest", 10, 1, 1},
		{"a limit of none", 0, 1, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			limitDescriptors(t, test.limit)
			if got := MaxConns(test.perConn); got != test.want {
				t.Errorf("MaxConns(%d) = %d, want %d", test.perConn, got, test.want)
			}
		})
	}
}

func TestMaxConnsOfProcess(t *testing.T) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	one, two := MaxConns(1), MaxConns(2)
	if one < 1 || uint64(one) >= uint64(limit.Cur) || two > one/2+1 {
		t.Errorf("with a limit of %d: %d, and %d of two descriptors each", limit.Cur, one, two)
	}
}
