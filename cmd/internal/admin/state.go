package admin

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/accio-go/accio/stage"
)

// State is the content of /api/connections and of the page. Sizes are in bytes, durations
// in seconds, rates in bytes per second, and times in RFC 3339, in UTC. Later versions may
// add fields, but keep these.
type State struct {
	Time    time.Time `json:"time"`
	Started time.Time `json:"started"` // the server
	Program string    `json:"program"`
	Version string    `json:"version"`
	Ready   bool      `json:"ready"`
	Unready string    `json:"unready,omitempty"` // why it is not ready

	InFlight  int  `json:"in_flight"`            // connections under way
	Slots     int  `json:"slots"`                // 0 means no limit
	SlotsFree *int `json:"slots_free,omitempty"` // if there is a limit

	Connections []Connection `json:"connections"` // open, newest first
	More        bool         `json:"more"`        // there are older ones
	Recent      []Ended      `json:"recent"`      // ended, newest first
	Totals      Totals       `json:"totals"`      // since the start
	Limits      []Limit      `json:"limits"`      // in force
	Disk        *Disk        `json:"disk,omitempty"`
}

// Connection is an open connection.
type Connection struct {
	Number      uint64    `json:"number"`
	Peer        string    `json:"peer"`
	Stage       string    `json:"stage"` // handshake, transfer or commit
	Bytes       int64     `json:"bytes"` // of payload
	Age         float64   `json:"age"`
	Accepted    time.Time `json:"accepted"`
	AverageRate float64   `json:"average_rate"`      // since it was accepted
	Rate        *float64  `json:"rate"`              // in the last second; null without a sample
	History     []float64 `json:"history,omitempty"` // one rate per second, up to a minute, oldest first
	Follow      string    `json:"follow,omitempty"`  // path of its bytes
}

// Ended is an ended connection.
type Ended struct {
	Number   uint64    `json:"number"`
	Peer     string    `json:"peer"`
	Outcome  string    `json:"outcome"` // a stage.Outcome
	OK       bool      `json:"ok"`      // the outcome is a success
	Cause    string    `json:"cause,omitempty"`
	Bytes    int64     `json:"bytes"`
	Duration float64   `json:"duration"`
	Ended    time.Time `json:"ended"`
}

// Totals are sums over all connections.
type Totals struct {
	Connections  uint64            `json:"connections"` // ended
	Outcomes     map[string]uint64 `json:"outcomes"`    // by outcome, zeros included
	Bytes        int64             `json:"bytes"`       // of payload, open connections included
	AcceptErrors uint64            `json:"accept_errors"`
}

// Limit is a limit in force, with the name of its flag.
type Limit struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"` // 0 means no limit
	Unit  Unit    `json:"unit"`
}

// Unit is the unit of a Limit.
type Unit string

// The units.
const (
	Bytes          Unit = "bytes"
	BytesPerSecond Unit = "bytes/second"
	Seconds        Unit = "seconds"
	Connections    Unit = "connections"
)

// Disk is the disk of the directory.
type Disk struct {
	Free    *int64 `json:"free"` // null if unknown
	MinFree int64  `json:"min_free"`
}

const (
	// Default and largest number of connections in a State.
	stateSize    = 100
	maxStateSize = 1000

	// maxCause bounds the text of a cause, which may hold data from the peer.
	maxCause = 300
)

// state returns the state with up to n connections with numbers below before (0: all).
func (s *Server) state(r *http.Request, before uint64, n int) *State {
	now := time.Now()
	list, open, more := s.table.newestBefore(before, n)
	st := &State{
		Time: now.UTC(), Started: s.table.started.UTC(), Program: s.Program, Version: s.Version,
		InFlight: open, Slots: s.Slots, More: more, Limits: s.Limits,
		Connections: make([]Connection, len(list)), Recent: []Ended{},
		Totals: Totals{Outcomes: make(map[string]uint64), Bytes: s.table.bytes.Load(), AcceptErrors: s.acceptErrors.Load()},
	}
	if s.Slots > 0 {
		free := s.slotsFree()
		st.SlotsFree = &free
	}
	s.sampler.Lock()
	for i, c := range list {
		st.Connections[i] = s.describe(c, now)
	}
	s.sampler.Unlock()
	for _, e := range s.table.last() {
		st.Recent = append(st.Recent, e.describe())
	}
	for _, o := range stage.Outcomes() {
		n := s.table.outcomes[o].Load()
		st.Totals.Outcomes[o.String()] = n
		st.Totals.Connections += n
	}
	ctx := s.ctx
	if r != nil {
		ctx = r.Context()
	}
	err := s.unready(ctx, pageProbeAge, pageProbePatience)
	if st.Ready = err == nil; err != nil {
		st.Unready = short(err.Error())
	}
	if s.Directory != nil {
		st.Disk = &Disk{MinFree: s.MinFree}
		if d := s.probe.ask(ctx, pageProbeAge, pageProbePatience); d.freeErr == nil {
			st.Disk.Free = &d.free
		}
	}
	return st
}

// describe describes an open connection. The sampler is locked.
func (s *Server) describe(c *connection, now time.Time) Connection {
	age := max(now.Sub(c.begun), 0)
	d := Connection{
		Number: c.number, Peer: stage.AddrString(c.peer()), Stage: c.stage(), Bytes: c.counter.Count(),
		Age: age.Seconds(), Accepted: c.begun.UTC(), History: append([]float64(nil), c.history...),
	}
	if age > 0 {
		d.AverageRate = math.Round(float64(d.Bytes) / age.Seconds())
	}
	for i, rate := range d.History {
		d.History[i] = math.Round(rate)
	}
	if n := len(d.History); n > 0 {
		d.Rate = &d.History[n-1]
	}
	if s.Follow != nil && d.Bytes > 0 && d.Stage == "transfer" {
		d.Follow = fmt.Sprintf("/follow/%d", c.number)
	}
	return d
}

func (e ended) describe() Ended {
	d := Ended{
		Number: e.number, Peer: stage.AddrString(e.peer), Outcome: e.outcome.String(), OK: e.outcome.OK(),
		Bytes: e.bytes, Duration: e.took.Seconds(), Ended: e.at.UTC(),
	}
	if e.err != nil {
		d.Cause = short(e.err.Error())
	}
	return d
}

// short shortens s to maxCause.
func short(s string) string {
	if len(s) <= maxCause {
		return s
	}
	cut := maxCause
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// serveState serves /api/connections. The parameter limit bounds the connections (100 by
// default, 1000 at most). The parameter before selects smaller numbers: the last number of
// an answer selects the next ones.
func (s *Server) serveState(w http.ResponseWriter, r *http.Request) {
	number := func(name string, unset, most uint64) (n uint64, ok bool) {
		value := r.URL.Query().Get(name)
		if value == "" {
			return unset, true
		}
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil || n == 0 || n > most {
			plain(w, http.StatusBadRequest, fmt.Sprintf("%s is a number from 1 to %d", name, most))
			return 0, false
		}
		return n, true
	}
	limit, ok := number("limit", stateSize, maxStateSize)
	if !ok {
		return
	}
	before, ok := number("before", 0, math.MaxUint64)
	if !ok {
		return
	}
	s.watchers.ask()
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(s.state(r, before, int(limit)))
}
