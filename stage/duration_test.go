package stage

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// limits is a test of stages that have to do with time: a peer, and when and how its
// connection is to end, on any connection and with any handler.
type limits struct {
	name  string
	chain Chain
	peer  []act
	err   error
	after time.Duration
}

func (tt limits) test(t *testing.T) {
	for network, open := range inMemory {
		for handler, h := range receivers {
			t.Run(fmt.Sprintf("%s, with %s on %s", tt.name, handler, network), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					server, client := open()
					start := time.Now()
					done := play(client, tt.peer...)
					err := Serve(t.Context(), server, 1, tt.chain.Then(h))
					if took := time.Since(start); took < tt.after || took > tt.after+idleError {
						t.Errorf("ended after %v, want %v", took, tt.after)
					}
					if !errors.Is(err, tt.err) {
						t.Errorf("ended with %v, want %v", err, tt.err)
					}
					client.Close()
					<-done
				})
			})
		}
	}
}

// each is a peer that sends s again and again, with a pause after it.
func each(d time.Duration, s string) []act {
	return slices.Repeat([]act{says(s), pauses(d)}, 1000)
}

func TestMaxDuration(t *testing.T) {
	const limit = 25 * time.Second
	only := Chain{MaxDuration{Limit: limit}}
	talks := each(time.Second, "x")
	for _, tt := range []limits{
		{"a peer that says nothing", only, nil, ErrTooLong, limit},
		{"a peer that talks on and on", only, talks, ErrTooLong, limit},
		{"a peer that talks all the time", only, slices.Repeat(each(time.Millisecond, "x"), 30), ErrTooLong, limit},
		{"a peer that ends its stream in time", only, []act{says("x"), pauses(limit - 1), ends}, nil, limit - 1},
		{"a peer that ends its stream too late", only, []act{says("x"), pauses(limit + time.Second), ends}, ErrTooLong, limit},
		{"no limit", Chain{MaxDuration{}}, []act{pauses(1000 * time.Hour), ends}, nil, 1000 * time.Hour},
		{"less than no limit", Chain{MaxDuration{Limit: -1}}, []act{pauses(time.Hour), ends}, nil, time.Hour},
		{"the longest limit", Chain{MaxDuration{Limit: 1<<63 - 1}}, []act{pauses(time.Hour), ends}, nil, time.Hour},

		{"a peer that is silent, for Idle outside", Chain{Idle{Limit: idleLimit}, only}, nil, ErrIdle, idleLimit},
		{"a peer that is silent, for Idle inside", Chain{only, Idle{Limit: idleLimit}}, nil, ErrIdle, idleLimit},
		{"a peer that talks on, for Idle outside", Chain{Idle{Limit: idleLimit}, only}, talks, ErrTooLong, limit},
		{"a peer that talks on, for Idle inside", Chain{only, Idle{Limit: idleLimit}}, talks, ErrTooLong, limit},
		{"the shorter of two, inside", Chain{MaxDuration{Limit: time.Hour}, only}, talks, ErrTooLong, limit},
		{"the shorter of two, outside", Chain{only, MaxDuration{Limit: time.Hour}}, talks, ErrTooLong, limit},
	} {
		tt.test(t)
	}
}

// The time of the sink is that of the connection.
func TestMaxDurationWhileTheSinkStalls(t *testing.T) {
	const stall = 30 * time.Second
	synctest.Test(t, func(t *testing.T) {
		server, client := wire()
		stalls := writerFunc(func(p []byte) (int, error) {
			time.Sleep(stall)
			return len(p), nil
		})
		start := time.Now()
		done := play(client, says("x"))
		err := Serve(t.Context(), server, 1, Chain{into(stalls), MaxDuration{Limit: idleLimit}}.Then(Receive))
		if took := time.Since(start); !errors.Is(err, ErrTooLong) || took < stall || took > stall+idleError {
			t.Errorf("ended after %v with %v", took, err)
		}
		<-done
	})
}

func TestHandshakeLimit(t *testing.T) {
	const limit = 5 * time.Second
	drips := []act{hears(accioGreeting)}
	for _, b := range accioConfirm {
		drips = append(drips, pauses(time.Second), says(string(b)))
	}
	only := Chain{Handshake{Script: Accio, Limit: limit}}
	both := []act{hears(accioGreeting), says(accioConfirm), hears(accioGreeting), says(accioConfirmAgain)}
	for _, tt := range []limits{
		{"a peer that says nothing", only, both[:1], ErrSlowHandshake, limit},
		{"a peer that says half of it", only, both[:3], ErrSlowHandshake, limit},
		{"a peer that says it bit by bit", only, drips, ErrSlowHandshake, limit},
		{"a peer that says it at the last moment", only,
			append(slices.Insert(slices.Clone(both), 1, pauses(limit-1)), says("x"), ends), nil, limit - 1},
		{"a peer that says it in two halves", only,
			append(slices.Insert(slices.Clone(both), 3, pauses(limit/2)), says("x"), ends), nil, limit / 2},
		{"a payload that takes its time", only, append(slices.Clone(both), pauses(time.Hour), says("x"), pauses(time.Hour), ends), nil, 2 * time.Hour},
		{"a wrong byte", only, []act{hears(accioGreeting), says("x")}, ErrProtocol, 0},
		{"no limit", Chain{Handshake{Script: Accio, Limit: -1}}, []act{hears(accioGreeting), pauses(time.Hour), ends}, nil, time.Hour},
		{"one after the other", Chain{only, Handshake{Script: Script{Steps: []Step{{Expect: "y"}}}, Limit: limit}},
			append(slices.Clone(both), pauses(limit-1)), ErrSlowHandshake, limit},

		{"a peer that says nothing, for a shorter Idle", Chain{Idle{Limit: time.Second}, only}, both[:1], ErrIdle, time.Second},
		{"a peer that says it bit by bit, for a shorter Idle", Chain{Idle{Limit: 2 * time.Second}, only}, drips, ErrSlowHandshake, limit},
		{"a peer that says nothing, for a longer Idle", Chain{Idle{Limit: idleLimit}, only}, both[:1], ErrSlowHandshake, limit},
		{"a peer that says nothing, for a shorter duration", Chain{MaxDuration{Limit: time.Second}, only}, both[:1], ErrTooLong, time.Second},
		{"a peer that says nothing, for a longer duration", Chain{MaxDuration{Limit: time.Hour}, only}, both[:1], ErrSlowHandshake, limit},
	} {
		tt.test(t)
	}
}

// The nearest of several limits applies, in any order of the stages. No byte arrives and no
// other limit passes within secondLook after one.
func TestLimitsTheNearestApplies(t *testing.T) {
	const unit, secondLook = 100 * time.Millisecond, 10 * time.Millisecond // see Conn.NewDeadline
	seen := map[error]int{}
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		units := func(n int64) time.Duration { return time.Duration(1+rnd.Int64N(n)) * unit }
		idle, duration, grace := units(100)+unit/4, units(600), units(200)+unit/3
		rate := 1 + rnd.Int64N(20)
		need := int64(math.Ceil(float64(rate) * grace.Seconds()))

		var (
			peer           []act
			now, last      time.Duration
			since, tooSlow time.Duration
			got            int64
			silent         = false
		)
		for range 80 {
			wait := units(1 + rnd.Int64N(60))
			if now == 0 {
				wait += unit / 2
			}
			n := 1 + rnd.Int64N(40)
			peer = append(peer, pauses(wait), says(strings.Repeat("x", int(n))))
			now += wait
			silent = silent || now > last+idle
			if !silent {
				last = now
			}
			if tooSlow == 0 && now > since+grace {
				tooSlow = since + grace
			}
			if got += n; tooSlow == 0 && got >= need {
				got, since = 0, now
			}
		}
		if tooSlow == 0 {
			tooSlow = since + grace
		}
		end, want := duration, ErrTooLong
		if t := last + idle; t < end {
			end, want = t, ErrIdle
		}
		if tooSlow < end {
			end, want = tooSlow, ErrTooSlow
		}
		seen[want]++
		chain := Chain{Idle{Limit: idle}, MaxDuration{Limit: duration}, MinRate{BytesPerSecond: rate, Grace: grace}, MaxSize{Bytes: math.MaxInt64}}
		rnd.Shuffle(len(chain), func(i, j int) { chain[i], chain[j] = chain[j], chain[i] })
		for network, open := range inMemory {
			synctest.Test(t, func(t *testing.T) {
				server, client := open()
				start := time.Now()
				done := play(client, peer...)
				err := Serve(t.Context(), server, 1, chain.Then(Receive))
				if took := time.Since(start); !errors.Is(err, want) || took < end || took > end+secondLook {
					t.Errorf("with seed %d on %s it ended after %v with %v, want %v, %v", seed, network, took, err, end, want)
				}
				client.Close()
				<-done
			})
		}
	}
	for _, err := range []error{ErrIdle, ErrTooLong, ErrTooSlow} {
		if seen[err] < 20 {
			t.Errorf("%v was tested %d times only", err, seen[err])
		}
	}
}
