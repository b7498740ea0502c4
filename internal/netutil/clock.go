package netutil

import "time"

// epoch is where Nanos counts from. It lies before the fake time of testing/synctest.
var epoch = time.Now().Add(-50 * 365 * 24 * time.Hour)

// Nanos returns t in nanoseconds since a fixed moment, at least 1, or 0 for the zero time. A
// number takes a third of the memory of a time.Time, and can be atomic.
func Nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(int64(t.Sub(epoch)), 1)
}

// TimeOf returns the time of which Nanos returned n.
func TimeOf(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return epoch.Add(time.Duration(n))
}
