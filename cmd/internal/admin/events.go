package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
)

const (
	// maxWatchers bounds how many pages are open at a time.
	maxWatchers = 16

	// interest is for how long rates are still found out when somebody has asked.
	interest = time.Minute

	// eventStall is how long a page may take to take what it is told.
	eventStall = 10 * time.Second
)

// watchers are the pages that are open. While there are some, or somebody has asked not
// long ago, all connections are looked at once a second.
type watchers struct {
	asked chan struct{} // holds a token if somebody has since it was looked

	mu   sync.Mutex
	last time.Time // when somebody has asked
	open map[chan []byte]struct{}
}

func newWatchers() *watchers {
	return &watchers{asked: make(chan struct{}, 1), open: make(map[chan []byte]struct{})}
}

// ask tells that somebody watches.
func (w *watchers) ask() {
	w.mu.Lock()
	w.last = time.Now()
	w.mu.Unlock()
	select {
	case w.asked <- struct{}{}:
	default:
	}
}

// enter has a page be told of each state by the channel, of which it gets the last if it
// is slow.
func (w *watchers) enter() (states chan []byte) {
	states = make(chan []byte, 1)
	w.mu.Lock()
	w.open[states] = struct{}{}
	w.mu.Unlock()
	w.ask()
	return states
}

func (w *watchers) leave(states chan []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.open, states)
	w.last = time.Now()
}

// watched reports whether pages are open, and whether somebody is interested at all.
func (w *watchers) watched() (pages, interested bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	pages = len(w.open) > 0
	return pages, pages || time.Since(w.last) < interest
}

// tell tells all pages.
func (w *watchers) tell(state []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for states := range w.open {
		select {
		case <-states: // it has not taken the one before
		default:
		}
		states <- state // there is room: only tell puts something there
	}
}

// watch looks at the connections as long as somebody is interested, and tells the pages,
// until ctx is done.
func (s *Server) watch(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.watchers.asked:
		}
		ticker := time.NewTicker(samplePeriod)
		for {
			s.sampler.look(s.table, time.Now())
			pages, interested := s.watchers.watched()
			if pages {
				s.watchers.tell(s.event())
			}
			if !interested {
				break
			}
			select {
			case <-ctx.Done():
				ticker.Stop()
				return
			case <-ticker.C:
			}
		}
		ticker.Stop()
	}
}

// event is the state as a server-sent event.
func (s *Server) event() []byte {
	state, err := json.Marshal(s.state(nil, 0, stateSize))
	if err != nil {
		panic(err) // there is nothing in it that could not be told
	}
	return fmt.Appendf(nil, "data: %s\n\n", state)
}

// serveEvents tells a page of the state each second (text/event-stream in the HTML
// standard).
func (s *Server) serveEvents(w http.ResponseWriter, r *http.Request) {
	states := s.watchers.enter()
	defer s.watchers.leave(states)
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	control := http.NewResponseController(w)
	for event := s.event(); ; {
		if err := control.SetWriteDeadline(time.Now().Add(eventStall)); err != nil {
			return
		}
		if _, err := w.Write(event); err != nil {
			return
		}
		if err := control.Flush(); err != nil {
			return
		}
		select {
		case event = <-states:
		case <-r.Context().Done():
			return
		}
	}
}
