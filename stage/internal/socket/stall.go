package socket

import "time"

// Stall detects a peer that takes none of the bytes sent to it. It watches the backlog of the
// connection: the system wakes a waiting write only when a good part of its buffer is free
// (sk_stream_write_space in net/core/stream.c). That may be megabytes, and take longer than
// the limit.
type Stall struct {
	socket  *Socket
	limit   time.Duration
	since   time.Time // when the peer last took something, as far as it was seen
	backlog int       // at the last look
}

// stallLooks is how often a Stall looks within its limit.
const stallLooks = 20

// NewStall returns a Stall that looks at s. The peer may take nothing for as long as limit.
func (s *Socket) NewStall(limit time.Duration) *Stall { return &Stall{socket: s, limit: limit} }

// Look returns when to look again, or false if the peer has taken nothing for as long as the
// limit since a write began or moved bytes.
func (w *Stall) Look(now time.Time) (next time.Time, ok bool) {
	backlog := w.socket.Backlog()
	if wrote := w.socket.LastWrite(); wrote.After(w.since) {
		w.since = wrote
	} else if backlog < w.backlog {
		w.since = now
	}
	w.backlog = backlog
	end := w.since.Add(w.limit)
	next = now.Add(w.limit / stallLooks)
	if backlog < 0 || !w.socket.HasDescriptor() || next.After(end) {
		next = end // also for a layer, whose writes cannot go on after a deadline (crypto/tls)
	}
	return next, now.Before(end)
}
