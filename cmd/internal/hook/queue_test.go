package hook

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accio-go/accio/stage"
)

// told are errors that were told.
type told struct {
	mu   sync.Mutex
	errs []string
}

func (l *told) add(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs = append(l.errs, err.Error())
}

func (l *told) are(t *testing.T, want ...string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Equal(l.errs, want) {
		t.Errorf("told:\n%q\nwant\n%q", l.errs, want)
	}
	l.errs = nil
}

func file(n int, o stage.Outcome) Saved {
	return Saved{Number: uint64(n), Path: fmt.Sprintf("/files/%d.file", n), Outcome: o}
}

func TestQueueDoesSomeAtATimeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var errs told
		var mu sync.Mutex
		var begun []uint64
		at, most := 0, 0
		q := &queue{name: "--x", ctx: t.Context(), jobs: 3, most: 100, onError: errs.add, onSkipped: errs.add, do: func(_ context.Context, s Saved) error {
			mu.Lock()
			begun = append(begun, s.Number)
			at++
			most = max(most, at)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			at--
			mu.Unlock()
			if s.Number == 5 {
				return errors.New("failed")
			}
			return nil
		}}
		begin := time.Now()
		for i := range 10 {
			q.add(file(i+1, stage.OutcomeReceived))
			synctest.Wait()
		}
		q.close()
		if took := time.Since(begin); took != 4*time.Second || most != 3 {
			t.Errorf("10 of a second each took %v, %d at a time", took, most)
		}
		slices.Sort(begun[3:6]) // which come at the same time
		slices.Sort(begun[6:9])
		if !slices.IsSorted(begun) || len(begun) != 10 {
			t.Errorf("done: %v", begun)
		}
		errs.are(t, "--x: 5.file: failed")
		q.add(file(11, stage.OutcomeReceived)) // nobody hears of it, and nothing is done
		synctest.Wait()
		if len(begun) != 10 {
			t.Error("something is done after close")
		}
	})
}

func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var errs told
		var done []uint64
		hold := make(chan struct{})
		q := &queue{name: "--x", ctx: t.Context(), jobs: 1, most: 8, onError: errs.add, onSkipped: errs.add, do: func(_ context.Context, s Saved) error {
			<-hold
			done = append(done, s.Number)
			return nil
		}}
		q.add(file(1, stage.OutcomeReceived))
		for n := 2; n <= 9; n++ { // 6 and those after find half of the places taken
			q.add(file(n, stage.OutcomeOf(stage.ErrIdle, 0)))
		}
		errs.are(t, "--x: too many files wait: skipping files from 6.file on")
		for n := 10; n <= 15; n++ {
			q.add(file(n, stage.OutcomeEmpty))
		}
		for range 5 {
			hold <- struct{}{}
			synctest.Wait()
			errs.are(t) // not at each place that becomes free
		}
		hold <- struct{}{}
		synctest.Wait()
		errs.are(t, "--x: skipped 6 files, from 6.file to 15.file, since too many waited")
		close(hold)
		q.close()
		errs.are(t)
		if want := []uint64{1, 2, 3, 4, 5, 10, 11, 12, 13}; !slices.Equal(done, want) {
			t.Errorf("done: %d, want %d", done, want)
		}
	})
}

// hooks are as Start begins them, with something else to do.
func hooks(t *testing.T, errs *told, do func(context.Context, Saved) error) (h *Hooks, stop, drained context.CancelFunc) {
	stopCtx, stop := context.WithCancel(t.Context())
	drainCtx, drained := context.WithCancel(t.Context())
	f := Options{OnSavedURL: "http://host", OnSavedJobs: 2}
	h, err := f.Start(stopCtx, drainCtx.Done(), "/files", "", func(string) func(error) { return errs.add })
	if err != nil {
		t.Fatal(err)
	}
	h.queues[0].do, h.queues[0].name = do, "--x"
	return h, stop, drained
}

func untilBrokenOff(d time.Duration) func(context.Context, Saved) error {
	return func(ctx context.Context, _ Saved) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func TestAStopGivesHooksHalfASecond(t *testing.T) {
	for _, tt := range []struct {
		name  string
		each  time.Duration
		drain time.Duration // less than 0: the server ends without a stop
		took  time.Duration
		told  []string
	}{
		{"quick", 100 * time.Millisecond, 0, 300 * time.Millisecond, nil},
		{"slow", time.Hour, 0, stopTime, []string{
			"--x: 1.file: interrupted, since the program stops", "--x: 2.file: interrupted, since the program stops",
			"--x: skipped 4 files, from 3.file to 6.file, since the program stops",
		}},
		{"halfway", 300 * time.Millisecond, 0, stopTime, []string{
			"--x: 3.file: interrupted, since the program stops", "--x: 4.file: interrupted, since the program stops",
			"--x: skipped 2 files, from 5.file to 6.file, since the program stops",
		}},
		{"drain", time.Second, time.Minute, 3 * time.Second, nil},
		{"drain that ends", time.Minute, 90 * time.Second, 90*time.Second + stopTime, []string{
			"--x: 3.file: interrupted, since the program stops", "--x: 4.file: interrupted, since the program stops",
			"--x: skipped 2 files, from 5.file to 6.file, since the program stops",
		}},
		{"no stop", time.Hour, -1, stopTime, []string{
			"--x: 1.file: interrupted, since the program stops", "--x: 2.file: interrupted, since the program stops",
			"--x: skipped 4 files, from 3.file to 6.file, since the program stops",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var errs told
				h, stop, drained := hooks(t, &errs, untilBrokenOff(tt.each))
				defer stop()
				defer drained()
				for n := 1; n <= 6; n++ {
					h.queues[0].add(file(n, stage.OutcomeReceived))
				}
				synctest.Wait()
				begin := time.Now()
				if tt.drain >= 0 {
					stop()
					time.AfterFunc(tt.drain, drained)
				}
				h.Close()
				if took := time.Since(begin); took != tt.took {
					t.Errorf("it took %v, want %v", took, tt.took)
				}
				slices.Sort(errs.errs[:min(2, len(errs.errs))])
				errs.are(t, tt.told...)
			})
		})
	}
}

func TestNoHooks(t *testing.T) {
	h, err := new(Options).Start(t.Context(), nil, "", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
	called := false
	next := stage.HandlerFunc(func(context.Context, *stage.Conn) error { called = true; return nil })
	if err := h.Stage().Wrap(next).Serve(t.Context(), nil); err != nil || !called {
		t.Error(err, called)
	}
}

func TestFlagsAreLookedAt(t *testing.T) {
	for text, ok := range map[string]bool{
		"": true, "http://host": true, "https://user:word@[::1]:80/a?b=c": true,
		"ftp://host": false, "host": false, "host:80": false, "http://": false, "http://:80": false, "https:host": false, "://": false, " ": false,
		"http://host\x00": false,
	} {
		if err := new(URL).UnmarshalText([]byte(text)); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
	for text, ok := range map[string]bool{"": true, "true": true, " \t\n": false} {
		if err := new(Shell).UnmarshalText([]byte(text)); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
	f := Options{OnSaved: "if true; then"}
	if err := f.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "--on-saved") {
		t.Error(err)
	}
	if _, err := f.Start(t.Context(), nil, "", "", nil); err == nil {
		t.Error("it starts with a command that makes no sense")
	}
}
