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
	// maxWatchers bounds the open pages.
	maxWatchers = 16

	// interest is the time after a request in which rates are sampled.
	interest = time.Minute

	// eventStall bounds the write of an event.
	eventStall = 10 * time.Second
)

// watchers are the open pages. While a page is open, and for a while after a request, all
// connections are sampled once a second.
type watchers struct {
	asked chan struct{} // holds a token after a request

	mu   sync.Mutex
	last time.Time // last request
	open map[chan []byte]struct{}
}

func newWatchers() *watchers {
	return &watchers{asked: make(chan struct{}, 1), open: make(map[chan []byte]struct{})}
}

// ask notes a request.
func (w *watchers) ask() {
	w.mu.Lock()
	w.last = time.Now()
	w.mu.Unlock()
	select {
	case w.asked <- struct{}{}:
	default:
	}
}

// enter adds a page. The channel carries the states. A slow page receives the newest only.
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

// watched reports whether pages are open, and whether rates are needed at all.
func (w *watchers) watched() (pages, interested bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	pages = len(w.open) > 0
	return pages, pages || time.Since(w.last) < interest
}

// tell sends the state to all pages.
func (w *watchers) tell(state []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for states := range w.open {
		select {
		case <-states: // the page has not received the previous state
		default:
		}
		states <- state // never blocks: only tell sends
	}
}

// watch samples the connections while rates are needed, and updates the pages, until ctx
// is done.
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

// event returns the state as a server-sent event.
func (s *Server) event() []byte {
	state, err := json.Marshal(s.state(nil, 0, stateSize))
	if err != nil {
		panic(err) // every State can be encoded
	}
	return fmt.Appendf(nil, "data: %s\n\n", state)
}

// serveEvents sends the state to a page each second (text/event-stream in the HTML
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
