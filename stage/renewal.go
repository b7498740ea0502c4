package stage

import (
	"errors"
	"os"
	"time"
)

// renewal is a read deadline that is left alone while bytes arrive: only when it
// passes is there a look at how much of the limit is left, and it is set again.
type renewal struct {
	conn ReadDeadliner
	due  time.Time // when the deadline passes
	late bool      // it has passed, and one more look is under way
	err  error     // from setting it at first
}

func (r *renewal) set(t time.Time) error {
	r.due = t
	return r.conn.SetReadDeadline(t)
}

func (r *renewal) stop() { r.conn.SetReadDeadline(time.Time{}) }

// after stops that of a connection which has ended.
func (r *renewal) after(err error) error {
	r.stop()
	return err
}

// passed reports whether err says that this deadline has passed, and not another's.
func (r *renewal) passed(err error, now time.Time) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) && !now.Before(r.due)
}

// secondLook is how long a reader waits once more when its deadline passed
// while it was not waiting: a sink that stalls must not make a peer look silent
// whose bytes have long arrived.
const secondLook = 10 * time.Millisecond

// renew sets the deadline for what is left of the limit, or for one more look. It
// reports true if that has been taken, and nothing is left.
func (r *renewal) renew(now time.Time, rest time.Duration) (over bool, err error) {
	switch {
	case rest > 0:
		r.late = false
	case r.late:
		return true, nil
	default:
		r.late, rest = true, secondLook
	}
	return false, r.set(now.Add(rest))
}
