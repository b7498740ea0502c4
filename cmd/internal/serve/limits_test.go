package serve

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/accio-go/accio/cmd/internal/cli"
)

// limits is a command with limits only.
type limits struct{ Limits }

func (*limits) Run(context.Context) error { return nil }

func TestLimits(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want Limits // if it is not refused
		says []string
	}{
		{nil, Limits{IdleTimeout: 10 * time.Second, MinRateGrace: 10 * time.Second}, nil},
		{[]string{"--idle-timeout=0", "--max-size=10MiB", "--min-rate", "1KiB/s", "--min-rate-grace=5s", "--drain=1m"},
			Limits{MaxSize: 10 << 20, MinRate: 1 << 10, MinRateGrace: 5 * time.Second, Drain: time.Minute}, nil},
		{[]string{"--handshake-timeout", "5s", "--max-duration", "1h"},
			Limits{HandshakeTimeout: 5 * time.Second, IdleTimeout: 10 * time.Second, MaxDuration: time.Hour, MinRateGrace: 10 * time.Second}, nil},
		{[]string{"--max-size=-1"}, Limits{}, []string{"--max-size", "-1", "10MiB"}},
		{[]string{"--max-size", "-1"}, Limits{}, []string{"--max-size", "-1", "10MiB"}},
		{[]string{"--max-size=10M"}, Limits{}, []string{"--max-size", "10M", "10MiB"}},
		{[]string{"--min-rate=fast"}, Limits{}, []string{"--min-rate", "fast", "100KiB"}},
		{[]string{"--min-rate-grace=0"}, Limits{}, []string{"--min-rate-grace", `"0"`, "10s"}},
		{[]string{"--min-rate-grace=-1s"}, Limits{}, []string{"--min-rate-grace", "-1s", "10s"}},
		{[]string{"--idle-timeout=-1s"}, Limits{}, []string{"--idle-timeout", "-1s", "10s"}},
		{[]string{"--idle-timeout", "-1s"}, Limits{}, []string{"--idle-timeout", "-1s", "10s"}},
		{[]string{"--handshake-timeout=-1ns"}, Limits{}, []string{"--handshake-timeout", "-1ns", "10s"}},
		{[]string{"--max-duration=-1h"}, Limits{}, []string{"--max-duration", "-1h", "10s"}},
		{[]string{"--drain=-1m"}, Limits{}, []string{"--drain", "-1m", "10s"}},
		{[]string{"--drain=soon"}, Limits{}, []string{"--drain", "soon"}},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			got := new(limits)
			_, err := cli.Parse(got, cli.Program{Name: "x"}, tt.args)
			if tt.says == nil && (err != nil || got.Limits != tt.want) {
				t.Errorf("%+v, %v; want %+v", got.Limits, err, tt.want)
			}
			for _, s := range tt.says {
				if err == nil || !strings.Contains(err.Error(), s) {
					t.Errorf("the error %v does not say %q", err, s)
				}
			}
		})
	}
}

func TestDrain(t *testing.T) {
	const drain = 50 * time.Millisecond
	for name, l := range map[string]Limits{"none": {}, "some": {Drain: drain}, "much": {Drain: time.Hour}} {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			drained, release := l.stopping(ctx)
			defer release()
			if err := drained.Err(); err != nil {
				t.Fatalf("before a stop it is over: %v", err)
			}
			begun := time.Now()
			stop()
			if l.Drain == time.Hour {
				if drained.Err() != nil {
					t.Error("it was over at once")
				}
				release()
			}
			<-drained.Done()
			if took := time.Since(begun); l.Drain == drain && took < drain {
				t.Errorf("it was over after %v", took)
			}
		})
	}
}
