package conformance

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Event is something that happened on a connection, as the kit saw it.
type Event struct {
	At   time.Duration `json:"atNanoseconds"` // since the trial began
	Conn int           `json:"conn"`          // 1 for the trial's first connection
	What string        `json:"what"`          // "sent", "received", or what else happened

	// Data is the beginning of what was sent or received, as Go quotes it, and
	// Bytes how much it was. Small pieces that follow each other closely are
	// events of their own; a stream is one event.
	Data  string `json:"data,omitempty"`
	Bytes int64  `json:"bytes,omitempty"`
}

func (e Event) String() string {
	s := fmt.Sprintf("%8.3f s  #%d  %s", e.At.Seconds(), e.Conn, e.What)
	if e.Bytes > 0 {
		s += fmt.Sprintf(" %d: %s", e.Bytes, e.Data)
	}
	return s
}

const (
	shownBytes   = 40   // of an event
	streamBytes  = 4096 // what makes a stream of an event
	shownEvents  = 12   // of one connection
	shownAtEnd   = 6    // of them, at the end
	shownConns   = 4
	recordedEach = 400
)

// recording is what the connections of one trial were seen to do.
type recording struct {
	mu    sync.Mutex
	start time.Time
	conns []track
}

// track is what one connection was seen to do.
type track struct {
	events []Event
	failed bool // it is here that a failure was noticed
}

// tape is the part of a recording that one connection writes.
type tape struct {
	r *recording
	i int
}

func (r *recording) tape() tape {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns = append(r.conns, track{})
	return tape{r, len(r.conns) - 1}
}

// note records that something happened.
func (t tape) note(what string) { t.add(what, nil) }

func (t tape) add(what string, data []byte) {
	t.r.mu.Lock()
	defer t.r.mu.Unlock()
	events := &t.r.conns[t.i].events
	if last := len(*events) - 1; last >= 0 && data != nil && (*events)[last].What == what &&
		((*events)[last].Bytes >= streamBytes || last >= recordedEach) {
		(*events)[last].Bytes += int64(len(data))
		return
	}
	shown := fmt.Sprintf("%q", data[:min(len(data), shownBytes)])
	if len(data) > shownBytes {
		shown += "…"
	}
	*events = append(*events, Event{time.Since(t.r.start), t.i + 1, what, shown, int64(len(data))})
}

// witness is a trial as one connection takes part in it: what it finds wrong fails
// the trial, and the report shows where that was.
type witness struct {
	*trial
	tape    tape
	process *process // the other side, if it is known
}

func (w witness) fail(expected, format string, args ...any) {
	if !w.over() {
		w.tape.note("is where the failure was noticed")
		w.tapes.mu.Lock()
		w.tapes.conns[w.tape.i].failed = true
		w.tapes.mu.Unlock()
	}
	w.failAbout(w.process, expected, format, args...)
}

func (w witness) ensure(ok bool, expected, format string, args ...any) {
	if !ok {
		w.fail(expected, format, args...)
	}
}

// events returns as much of what happened as somebody would read, in order of
// time, and how much was left out.
func (r *recording) events() (shown []Event, left int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, conn := range r.conns {
		events := conn.events
		switch {
		case i >= shownConns && i < len(r.conns)-1 && !conn.failed:
			left += len(events)
		case len(events) > shownEvents:
			left += len(events) - shownEvents
			shown = append(shown, events[:shownEvents-shownAtEnd]...)
			shown = append(shown, events[len(events)-shownAtEnd:]...)
		default:
			shown = append(shown, events...)
		}
	}
	slices.SortStableFunc(shown, func(a, b Event) int { return int(a.At - b.At) })
	return shown, left
}

// quoted shows bytes that may be many.
func quoted[T string | []byte](b T) string {
	if len(b) > 2*shownBytes {
		return fmt.Sprintf("%q… (%d bytes)", b[:2*shownBytes], len(b))
	}
	return fmt.Sprintf("%q", b)
}

// oneLine shows what a program said.
func oneLine(s string) string {
	if strings.TrimSpace(s) == "" {
		return "nothing"
	}
	return quoted(s)
}
