package socket

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/accio-go/accio/internal/netutil"
)

// Deadline ends reads and writes that wait at its time, unless its owner names a later
// one. A Socket may have any number of them. It is safe for concurrent use.
type Deadline struct {
	s       *Socket
	expired func(now time.Time) (next time.Time, err error)

	// Socket.mu guards these.
	reads  int64     // the time, by netutil.Nanos; 0: none
	writes int64     // likewise
	looked bool      // a read had its second look
	next   *Deadline // in the list of s
}

// NewDeadline returns a Deadline that is not set. When its time has passed, the goroutine
// that reads or writes calls expired, which returns a later time (zero: never) or the
// error that ends the call. A time that is not later, and a nil expired, end the call with
// os.ErrDeadlineExceeded. expired must not read from the Socket or write to it.
func (s *Socket) NewDeadline(expired func(now time.Time) (next time.Time, err error)) *Deadline {
	if expired == nil {
		expired = func(time.Time) (time.Time, error) { return time.Time{}, os.ErrDeadlineExceeded }
	}
	return &Deadline{s: s, expired: expired}
}

// SetRead sets the time for reads; zero means never.
func (d *Deadline) SetRead(t time.Time) { d.s.set(&d.s.reads, d, t) }

// SetWrite sets the time for writes; zero means never.
func (d *Deadline) SetWrite(t time.Time) { d.s.set(&d.s.writes, d, t) }

// direction is the reads of a Socket, or its writes. Its times are numbers, by netutil.Nanos.
type direction struct {
	armed atomic.Int64 // the nearest of the deadlines; 0: none
	set   atomic.Int64 // what the deadline of the connection is set to
	began atomic.Int64 // when the call under way began; 0: none
	spent atomic.Int64 // how long all calls took, minus the beginning of that under way
	sets  atomic.Int32 // how often set was changed during a call
	seen  int32        // sets as the goroutine of the call last saw it
}

// past is a time that has always passed.
const past = 1

// secondLook is how long a read goes on if its deadline passed that long ago, or before it
// began. Bytes that arrived while the sink was slow, or the process was stopped, are not
// silence.
const secondLook = 10 * time.Millisecond

// errAgain means that a call must be made again, since its deadline was moved.
var errAgain = errors.New("socket: deadline moved")

// begin notes that a call begins. It fails if a deadline has passed.
func (s *Socket) begin(d *direction) error {
	now := netutil.Nanos(time.Now())
	d.spent.Add(-now)
	d.began.Store(now)
	d.seen = d.sets.Load()
	armed := d.armed.Load()
	if armed == d.set.Load() && (armed == 0 || now < armed) {
		return nil
	}
	err := s.expire(d, now)
	if err != nil {
		d.began.Store(0)
		d.spent.Add(now)
	}
	return err
}

// end notes that a call has moved n bytes and failed with err, unless that is nil. It
// returns errAgain, or how the call ended.
func (s *Socket) end(d *direction, n int, err error) error {
	now := netutil.Nanos(time.Now())
	if n > 0 && d == &s.writes {
		s.moved.Store(now)
	}
	if err = s.explain(d, now, err); err != errAgain {
		d.began.Store(0)
		d.spent.Add(now)
	}
	return err
}

func (s *Socket) explain(d *direction, now int64, err error) error {
	switch {
	case err == nil || err == io.EOF:
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		if stopped := s.Interrupted(); stopped != nil {
			return stopped
		}
		passed, ok := s.passed(d, now)
		if !ok {
			return err // not by a Deadline
		}
		if err := s.expire(d, passed); err != nil {
			return err
		}
		return errAgain
	case isClosed(err):
		if stopped := s.Interrupted(); stopped != nil {
			return stopped
		}
	}
	return s.broken(err)
}

// passed returns until when deadlines have passed, for a call that a deadline of the
// connection ended at now. It reports false if that cannot be the time of a Deadline.
func (s *Socket) passed(d *direction, now int64) (int64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	armed, seen := d.armed.Load(), d.seen
	d.seen = d.sets.Load()
	if armed != 0 && armed-now <= int64(secondLook) {
		return max(now, armed), true // the poller may be some nanoseconds early
	}
	return now, d.seen != seen // another goroutine has moved it since
}

// expire asks the owners of all deadlines of d that have passed by now.
func (s *Socket) expire(d *direction, now int64) error {
	for {
		dl, at, err := s.nextExpired(d, now)
		if dl == nil || err != nil {
			return err
		}
		next, err := dl.expired(netutil.TimeOf(now))
		if err == nil && !next.IsZero() && netutil.Nanos(next) <= now {
			err = os.ErrDeadlineExceeded // or the owner would be asked for ever
		}
		if err != nil {
			return err
		}
		s.move(d, dl, at, next)
	}
}

// nextExpired returns a deadline that has passed by now, and its time, or nil. An error ends
// the call, whatever its deadlines are.
func (s *Socket) nextExpired(d *direction, now int64) (*Deadline, int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for dl := s.deadlines; dl != nil && s.stopped == nil; dl = dl.next {
		at := s.at(d, dl)
		if *at == 0 || *at > now {
			continue
		}
		late := *at < d.began.Load() || now-*at >= int64(secondLook)
		if d == &s.reads && late && !dl.looked {
			*at, dl.looked = now+int64(secondLook), true
			continue
		}
		return dl, *at, nil
	}
	s.arm(d)
	return nil, 0, s.stopped
}

// at returns the time of dl in one direction.
func (s *Socket) at(d *direction, dl *Deadline) *int64 {
	if d == &s.reads {
		return &dl.reads
	}
	return &dl.writes
}

// set sets the time of dl.
func (s *Socket) set(d *direction, dl *Deadline, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.change(d, dl, t)
}

// move sets the time of dl, which was at, unless another goroutine has set it since.
func (s *Socket) move(d *direction, dl *Deadline, at int64, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if *s.at(d, dl) == at {
		s.change(d, dl, t)
	}
}

// change sets the time of dl. s.mu is held.
func (s *Socket) change(d *direction, dl *Deadline, t time.Time) {
	*s.at(d, dl) = netutil.Nanos(t)
	if d == &s.reads {
		dl.looked = false
	}
	place := &s.deadlines // of dl, or the end
	for *place != nil && *place != dl {
		place = &(*place).next
	}
	if dl.reads != 0 || dl.writes != 0 {
		*place = dl
	} else {
		*place, dl.next = dl.next, nil
	}
	s.arm(d)
}

// arm finds the nearest deadline of d, unless I/O is interrupted. s.mu is held.
//
// The deadline of the connection follows while a call is under way, and otherwise when
// the next one begins: most deadlines are moved again, or removed, before that.
func (s *Socket) arm(d *direction) {
	if s.stopped != nil {
		return
	}
	armed := int64(0)
	for dl := s.deadlines; dl != nil; dl = dl.next {
		if at := *s.at(d, dl); at != 0 && (armed == 0 || at < armed) {
			armed = at
		}
	}
	d.armed.Store(armed)
	if d.began.Load() == 0 || d.set.Swap(armed) == armed {
		return
	}
	set := s.nc.SetReadDeadline
	if d == &s.writes {
		set = s.nc.SetWriteDeadline
	}
	err := set(netutil.TimeOf(armed))
	d.sets.Add(1)
	if err != nil && !isClosed(err) {
		s.stop(err)
	}
}

// ReadTime returns how long reads have waited and read, the read under way included.
func (s *Socket) ReadTime() time.Duration { return s.timeOf(&s.reads) }

// WriteTime returns how long writes have waited and written, the write under way included.
func (s *Socket) WriteTime() time.Duration { return s.timeOf(&s.writes) }

func (s *Socket) timeOf(d *direction) time.Duration {
	spent := d.spent.Load()
	if spent < 0 { // a call is under way
		spent += netutil.Nanos(time.Now())
	}
	return time.Duration(spent)
}

// LastWrite returns when the last write began or, if that is later, last moved bytes.
func (s *Socket) LastWrite() time.Time {
	return netutil.TimeOf(max(s.moved.Load(), s.writes.began.Load()))
}
