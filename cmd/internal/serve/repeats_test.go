package serve

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// written is what several goroutines have written.
type written struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *written) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

func (w *written) Reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b.Reset()
}

// limited is a log with repeats, and what it has written.
func limited() (*slog.Logger, *repeats, *written) {
	b := new(written)
	r := newRepeats(slog.NewTextHandler(b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}), false)
	return slog.New(r), r, b
}

func TestRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, r, b := limited()
		for i := range repeatsShown + 5 {
			log.Error("storage", "cause", i)
			time.Sleep(100 * time.Millisecond)
		}
		if n := strings.Count(b.String(), "msg=storage"); n != repeatsShown {
			t.Errorf("%d are shown, want %d", n, repeatsShown)
		}
		b.Reset()
		time.Sleep(repeatsTime)
		synctest.Wait()
		if got, want := b.String(), "level=ERROR msg=\"repeated records left out\" of=storage count=5 within=10s\n"; got != want {
			t.Errorf("told: %q, want %q", got, want)
		}
		b.Reset()
		for range repeatsShown {
			log.Error("storage")
		}
		if n := strings.Count(b.String(), "msg=storage"); n != repeatsShown {
			t.Errorf("%d are shown when it began anew", n)
		}
		b.Reset()
		log.Error("storage")
		time.Sleep(time.Second)
		r.flush()
		if got, want := b.String(), "level=ERROR msg=\"repeated records left out\" of=storage count=1 within=1s\n"; got != want {
			t.Errorf("at the end: %q, want %q", got, want)
		}
		r.flush()
		time.Sleep(2 * repeatsTime)
		synctest.Wait()
		if got := b.String(); strings.Count(got, "\n") != 1 {
			t.Errorf("told twice: %q", got)
		}
	})
}

// What comes slowly is no flood.
func TestRepeats_rare_records_pass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, r, b := limited()
		for range 3 * repeatsShown {
			log.Warn("now and then")
			time.Sleep(repeatsTime / repeatsShown)
		}
		r.flush()
		if n := strings.Count(b.String(), "msg=\"now and then\""); n != 3*repeatsShown || strings.Contains(b.String(), "left out") {
			t.Errorf("%d are shown: %s", n, b)
		}
	})
}

func TestRepeats_by_kind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, r, b := limited()
		for range 2 * repeatsShown {
			log.Info("ended", "outcome", "received")
			log.Warn("ended", "connection", 1, "outcome", "protocol")
			log.With("server", "a").Warn("ended", "outcome", "idle")
			log.Error("ended", "outcome", "idle")
			log.WithGroup("group").Error("other")
		}
		r.flush()
		for part, want := range map[string]int{
			"level=INFO msg=ended outcome=received": 2 * repeatsShown,
			"level=WARN msg=ended connection=1":     repeatsShown,
			"level=WARN msg=ended server=a":         repeatsShown,
			"level=ERROR msg=ended":                 repeatsShown,
			"msg=other":                             repeatsShown,
			"of=ended outcome=protocol count=10":    1,
			"of=ended outcome=idle count=10":        2,
			"of=other count=10":                     1,
			"left out":                              4,
		} {
			if n := strings.Count(b.String(), part); n != want {
				t.Errorf("%d of %s, want %d", n, part, want)
			}
		}
	})
}

func TestRepeats_concurrently(t *testing.T) {
	log, r, b := limited()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				log.Warn("flood")
			}
		})
	}
	wg.Wait()
	r.flush()
	if n := strings.Count(b.String(), "msg=flood"); n != repeatsShown || !strings.Contains(b.String(), "count=790 ") {
		t.Errorf("%d are shown: %s", n, b)
	}
}
