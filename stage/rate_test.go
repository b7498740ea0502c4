package stage

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestMinRate(t *testing.T) {
	const grace = 10 * time.Second
	only := Chain{MinRate{BytesPerSecond: 100, Grace: grace}} // a thousand bytes in ten seconds
	some := func(n int) string { return strings.Repeat("x", n) }
	for _, tt := range []limits{
		{"a peer that says nothing", only, nil, ErrTooSlow, grace},
		{"a peer that is much too slow", only, each(time.Second, "x"), ErrTooSlow, grace},
		{"a peer that is a little too slow", only, each(time.Second, some(90)), ErrTooSlow, grace},
		{"a peer that is quick enough", only, append(each(time.Second, some(120))[:200], ends), nil, 100 * time.Second},
		{"a peer that sends it all at the last moment", only,
			[]act{pauses(grace - 1), says(some(1000)), pauses(grace - 1), says(some(1000)), ends}, nil, 2*grace - 2},
		{"a peer that falls silent", only, []act{pauses(3 * time.Second), says(some(1000))}, ErrTooSlow, 3*time.Second + grace},
		{"a peer that falls silent after far more", only, []act{pauses(3 * time.Second), says(some(100000))}, ErrTooSlow, 3*time.Second + grace},
		{"a peer that becomes slow", only, append(each(time.Second, some(200))[:20], each(time.Second, "x")...), ErrTooSlow, 9*time.Second + grace},
		{"a small payload that ends in time", only, []act{says("x"), pauses(grace - 1), ends}, nil, grace - 1},
		{"a small payload that does not", only, []act{says("x"), pauses(grace + time.Second), ends}, ErrTooSlow, grace},
		{"no limit", Chain{MinRate{}}, []act{pauses(time.Hour), ends}, nil, time.Hour},
		{"less than no limit", Chain{MinRate{BytesPerSecond: -1}}, []act{pauses(time.Hour), ends}, nil, time.Hour},
		{"a byte a second", Chain{MinRate{BytesPerSecond: 1, Grace: time.Second}}, []act{pauses(time.Second / 2)}, ErrTooSlow, time.Second},
		{"less than a byte", Chain{MinRate{BytesPerSecond: 1, Grace: time.Millisecond}}, nil, ErrTooSlow, time.Millisecond},
		{"more than there can be", Chain{MinRate{BytesPerSecond: math.MaxInt64, Grace: time.Hour}}, []act{says("x")}, ErrTooSlow, time.Hour},

		{"a peer that says nothing, for a shorter Idle", Chain{Idle{Limit: time.Second}, only}, nil, ErrIdle, time.Second},
		{"a slow peer, for a shorter Idle", Chain{Idle{Limit: 2 * time.Second}, only}, each(time.Second, "x"), ErrTooSlow, grace},
		{"a peer that says nothing, for a longer Idle", Chain{only, Idle{Limit: time.Minute}}, nil, ErrTooSlow, grace},
		{"a slow peer, for a shorter duration", Chain{only, MaxDuration{Limit: 5 * time.Second}}, each(time.Second, "x"), ErrTooLong, 5 * time.Second},
		{"a slow peer, for a longer duration", Chain{MaxDuration{Limit: time.Minute}, only}, each(time.Second, "x"), ErrTooSlow, grace},
		{"a quick peer, for a duration", Chain{only, MaxDuration{Limit: 35 * time.Second}}, each(time.Second, some(120)), ErrTooLong, 35 * time.Second},
	} {
		tt.test(t)
	}
}

// The handshake is no payload: neither its bytes nor its time count.
func TestMinRateInsideOfAHandshake(t *testing.T) {
	chain := Chain{Handshake{Script: Accio}, MinRate{BytesPerSecond: 1, Grace: idleLimit}}
	slow := []act{hears(accioGreeting), says(accioConfirm), hears(accioGreeting), pauses(time.Hour), says(accioConfirmAgain)}
	limits{"a slow handshake, and a payload", chain, append(slices.Clone(slow), says("x"), ends), nil, time.Hour}.test(t)
	limits{"a slow handshake, and no payload", chain, slow, ErrTooSlow, time.Hour + idleLimit}.test(t)
}

// However long the sink takes, only the peer's time counts.
func TestMinRateWhileTheSinkStalls(t *testing.T) {
	const stall = 30 * time.Second
	for _, tt := range []struct {
		name  string
		peer  []act
		err   error
		after time.Duration
	}{
		{"bytes that came before the stall", []act{says("a"), says("b"), says("c"), ends}, nil, 3 * stall},
		{"bytes that came during the stall", []act{says("a"), pauses(stall / 2), says("b"), ends}, nil, 2 * stall},
		{"bytes that came soon after the stall", []act{says("a"), pauses(stall + 5*time.Second), says("b"), ends}, nil, 2*stall + 5*time.Second},
		{"a peer that takes its time before the stall and after",
			[]act{pauses(6 * time.Second), says("a"), pauses(stall + 6*time.Second), says("b")}, ErrTooSlow, stall + idleLimit},
		{"nothing more", []act{says("a")}, ErrTooSlow, stall + idleLimit},
	} {
		for handler, h := range receivers {
			t.Run(tt.name+", with "+handler, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					server, client := wire()
					var got bytes.Buffer
					stalls := writerFunc(func(p []byte) (int, error) {
						if len(p) > 0 {
							time.Sleep(stall)
						}
						return got.Write(p)
					})
					start := time.Now()
					done := play(client, tt.peer...)
					err := Serve(t.Context(), server, 1, Chain{into(stalls), MinRate{BytesPerSecond: 1, Grace: idleLimit}}.Then(h))
					if !errors.Is(err, tt.err) {
						t.Errorf("ended with %v, want %v", err, tt.err)
					}
					if took := time.Since(start); took < tt.after || took > tt.after+idleError {
						t.Errorf("ended after %v, want %v", took, tt.after)
					}
					client.Close()
					<-done
				})
			})
		}
	}
}

// The deadline is not moved at each byte, only when it has passed.
func TestMinRateSetsTheDeadlineSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := wire()
		watched := &deadlineConn{Conn: server}
		done := play(client, append(slices.Repeat([]act{pauses(10 * time.Millisecond), says("x")}, 6000), ends)...)
		chain := Chain{MinRate{BytesPerSecond: 10, Grace: idleLimit}}
		if err := Serve(t.Context(), watched, 1, chain.Then(Receive)); err != nil {
			t.Error(err)
		}
		<-done
		if watched.n > 20 {
			t.Errorf("set %d times in a minute", watched.n)
		}
	})
}

func TestMinRateWithoutGrace(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("Wrap did not panic")
		}
	}()
	MinRate{BytesPerSecond: 1}.Wrap(Receive)
}
