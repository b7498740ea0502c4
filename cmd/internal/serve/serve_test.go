package serve

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestDrainLog(t *testing.T) {
	type told struct {
		after time.Duration
		left  int
		done  bool
	}
	for _, tt := range []struct {
		name  string
		tells []told
		want  []string
	}{
		{"nothing to do", []told{{0, 0, false}, {0, 0, true}}, []string{
			`level=INFO msg=draining connections_left=0 at_most=1m0s`,
			`level=INFO msg=drained duration=0s`,
		}},
		{"all have ended", []told{{0, 3, false}, {5 * time.Second, 2, false}, {2 * time.Second, 0, true}}, []string{
			`level=INFO msg=draining connections_left=3 at_most=1m0s`,
			`level=INFO msg="still draining" connections_left=2`,
			`level=INFO msg=drained duration=7s`,
		}},
		{"some have not", []told{{0, 3, false}, {time.Minute, 2, true}}, []string{
			`level=INFO msg=draining connections_left=3 at_most=1m0s`,
			`level=WARN msg="drain cut off" connections_aborted=2 duration=1m0s`,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, b, _ := begin(t, "info", "text")
			synctest.Test(t, func(*testing.T) {
				tell := draining(time.Minute)
				for _, w := range tt.tells {
					time.Sleep(w.after)
					tell(w.left, w.done)
				}
			})
			lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
			if len(lines) != len(tt.want) {
				t.Fatalf("it says %q", lines)
			}
			for i, line := range lines {
				if _, words, _ := strings.Cut(line, " "); words != tt.want[i] {
					t.Errorf("it says %q, want %q", words, tt.want[i])
				}
			}
		})
	}
}
