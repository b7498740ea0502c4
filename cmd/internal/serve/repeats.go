package serve

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/accio-go/accio/cmd/internal/cli"
)

// Of each kind of record, repeatsShown are shown within repeatsTime.
const (
	repeatsShown = 10
	repeatsTime  = 10 * time.Second
)

// repeats is a slog.Handler that limits repeated warnings and errors, and reports how many
// it left out. So neither an attack nor a full disk floods the log. Records of lower
// levels, and records of cli.Complain, always pass.
type repeats struct {
	slog.Handler
	*tallies // shared by the handlers that WithAttrs and WithGroup return
}

type tallies struct {
	report slog.Handler // for the reports of records left out
	plain  bool         // the handler shows only the attribute cause

	mu  sync.Mutex
	all map[kind]*tally
}

// kind distinguishes records. The outcome is an attribute of the records of
// [stage.Log].
type kind struct {
	level            slog.Level
	message, outcome string
}

// tally counts the records of a kind since begun.
type tally struct {
	begun time.Time
	count int
	timer *time.Timer // set once a record is left out
}

func newRepeats(h slog.Handler, plain bool) *repeats {
	return &repeats{h, &tallies{report: h, plain: plain, all: make(map[kind]*tally)}}
}

func (r *repeats) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &repeats{r.Handler.WithAttrs(attrs), r.tallies}
}

func (r *repeats) WithGroup(name string) slog.Handler {
	return &repeats{r.Handler.WithGroup(name), r.tallies}
}

func (r *repeats) Handle(ctx context.Context, record slog.Record) error {
	if record.Level >= slog.LevelWarn && record.Message != cli.Failed {
		k := kind{level: record.Level, message: record.Message}
		record.Attrs(func(a slog.Attr) bool {
			if a.Key == "outcome" {
				k.outcome = a.Value.String()
			}
			return a.Key != "outcome"
		})
		if !r.passes(k) {
			return nil
		}
	}
	return r.Handler.Handle(ctx, record)
}

// passes counts a record, and reports whether to show it.
func (s *tallies) passes(k kind) bool {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.all[k]
	if t == nil || t.timer == nil && now.Sub(t.begun) >= repeatsTime {
		t = &tally{begun: now}
		s.all[k] = t
	}
	t.count++
	if t.count > repeatsShown && t.timer == nil {
		t.timer = time.AfterFunc(repeatsTime-now.Sub(t.begun), func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.all[k] == t {
				s.end(k, t)
			}
		})
	}
	return t.count <= repeatsShown
}

// end reports the records of a kind that were left out. s.mu is held, so flush waits.
func (s *tallies) end(k kind, t *tally) {
	delete(s.all, k)
	t.timer.Stop()
	ctx := context.Background()
	if !s.report.Enabled(ctx, k.level) {
		return
	}
	left, within := t.count-repeatsShown, time.Since(t.begun)
	record := slog.NewRecord(time.Now(), k.level, "repeated records left out", 0)
	if s.plain {
		record.AddAttrs(slog.String("cause", fmt.Sprintf("%s: %d more left out within %v", k.message, left, within.Round(time.Millisecond))))
	}
	record.AddAttrs(slog.String("of", k.message))
	if k.outcome != "" {
		record.AddAttrs(slog.String("outcome", k.outcome))
	}
	record.AddAttrs(slog.Int("count", left), slog.Duration("within", within))
	s.report.Handle(ctx, record)
}

// flush reports all records that were left out.
func (s *tallies) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, t := range s.all {
		if t.timer != nil {
			s.end(k, t)
		}
	}
}
