package cli

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// repeatsShown is how many records of one kind are shown within repeatsTime.
	repeatsShown = 10
	repeatsTime  = 10 * time.Second

	// maxKinds is how many kinds are told apart. The program has fewer; this is for
	// messages that are not as constant as they should be.
	maxKinds = 100
)

// kinds lets no more than repeatsShown of a kind through in repeatsTime, from the first of
// them on, and then tells how many it has left out: who attacks the server, or a disk that
// is full, fills no log. It is safe for concurrent use.
type kinds struct {
	// tell tells how many of a kind were left out since its time began, so long ago. It is
	// called by one goroutine at a time.
	tell func(of recordKind, left int, within time.Duration)

	mu  sync.Mutex
	all map[recordKind]*tally
}

// recordKind is of what is told, in a log or without one.
type recordKind struct {
	level            slog.Level
	message, outcome string
}

// tally is what has come of a kind since its time began.
type tally struct {
	begun time.Time
	shown int
	left  int // out
	timer *time.Timer
}

func newKinds(tell func(recordKind, int, time.Duration)) *kinds {
	return &kinds{tell: tell, all: make(map[recordKind]*tally)}
}

// repeats is a slog.Handler that limits warnings and errors as kinds does. A kind is a
// level, a message and, if there is one, the attribute outcome of [stage.Log]. What is
// below a warning always passes.
type repeats struct {
	slog.Handler // to which records go
	*kinds       // shared with those made of it
}

func newRepeats(h slog.Handler) *repeats {
	return &repeats{h, newKinds(func(of recordKind, left int, within time.Duration) {
		record := slog.NewRecord(time.Now(), of.level, "repeated records left out", 0)
		record.AddAttrs(slog.String("of", of.message))
		if of.outcome != "" {
			record.AddAttrs(slog.String("outcome", of.outcome))
		}
		record.AddAttrs(slog.Int("count", left), slog.Duration("within", within))
		if ctx := context.Background(); h.Enabled(ctx, of.level) {
			h.Handle(ctx, record)
		}
	})}
}

func (r *repeats) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &repeats{r.Handler.WithAttrs(attrs), r.kinds}
}

func (r *repeats) WithGroup(name string) slog.Handler {
	return &repeats{r.Handler.WithGroup(name), r.kinds}
}

// Handle passes the record on, or counts it.
func (r *repeats) Handle(ctx context.Context, record slog.Record) error {
	if record.Level >= slog.LevelWarn && !r.passes(kindOf(record)) {
		return nil
	}
	return r.Handler.Handle(ctx, record)
}

func kindOf(record slog.Record) recordKind {
	of := recordKind{level: record.Level, message: record.Message}
	record.Attrs(func(a slog.Attr) bool {
		if a.Key == "outcome" {
			of.outcome = a.Value.String()
			return false
		}
		return true
	})
	return of
}

// passes reports whether one of a kind is to be shown.
func (k *kinds) passes(of recordKind) bool {
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	t := k.all[of]
	if t == nil && len(k.all) >= maxKinds {
		k.forget(now)
		if len(k.all) >= maxKinds {
			of = recordKind{level: of.level, message: "other"}
			t = k.all[of]
		}
	}
	if t == nil {
		t = &tally{begun: now}
		k.all[of] = t
	}
	if t.timer == nil && now.Sub(t.begun) >= repeatsTime {
		t.begun, t.shown = now, 0
	}
	if t.shown < repeatsShown {
		t.shown++
		return true
	}
	if t.left++; t.timer == nil {
		t.timer = time.AfterFunc(repeatsTime-now.Sub(t.begun), func() { k.tellOf(of) })
	}
	return false
}

// forget drops the kinds whose time is over. k.mu is held.
func (k *kinds) forget(now time.Time) {
	for of, t := range k.all {
		if t.timer == nil && now.Sub(t.begun) >= repeatsTime {
			delete(k.all, of)
		}
	}
}

// tellOf tells how many of a kind were left out, and begins its time anew.
func (k *kinds) tellOf(of recordKind) {
	k.mu.Lock()
	defer k.mu.Unlock() // so that flush waits for what is being told
	t := k.all[of]
	if t == nil || t.timer == nil {
		return
	}
	t.timer.Stop()
	delete(k.all, of)
	k.tell(of, t.left, time.Since(t.begun))
}

// flush tells of all that was left out and not told yet. Nothing else comes meanwhile,
// nor later.
func (k *kinds) flush() {
	k.mu.Lock()
	var left []recordKind
	for of, t := range k.all {
		if t.timer != nil {
			left = append(left, of)
		}
	}
	k.mu.Unlock()
	for _, of := range left {
		k.tellOf(of)
	}
}
