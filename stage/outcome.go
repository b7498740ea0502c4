package stage

import "errors"

// Outcome is the kind of end that a connection had: one of a few, where an error
// says more than can be counted. The zero value is OutcomeFailed.
type Outcome uint8

// The outcomes. They are numbered from 0 without a gap, in an order that may
// change: what is kept is the String.
const (
	OutcomeFailed        Outcome = iota // for a reason that is none of the causes of this package
	OutcomeReceived                     // well, with a payload
	OutcomeEmpty                        // well, without one
	OutcomeIdle                         // ErrIdle
	OutcomeProtocol                     // ErrProtocol
	OutcomeReset                        // ErrReset
	OutcomeShutdown                     // ErrShutdown
	OutcomeStorage                      // ErrStorage
	OutcomeReport                       // ErrReport
	OutcomePanic                        // ErrPanic
	OutcomeTooLarge                     // ErrTooLarge
	OutcomeTooLong                      // ErrTooLong
	OutcomeTooSlow                      // ErrTooSlow
	OutcomeSlowHandshake                // ErrSlowHandshake
	OutcomeTooMany                      // ErrTooMany
	OutcomeNoSpace                      // ErrNoSpace
	OutcomeRejected                     // ErrRejected
	OutcomeConflict                     // ErrConflict
)

// OutcomeOf returns the outcome of a connection that ended with err, as a
// [Handler] returns it, and whose payload had so many bytes.
//
// An error that is of several kinds, such as a payload that came too slowly and in
// whose place no mark could be stored, is what is worst for whoever runs the server:
// a report that could not be written, a panic, what could not be stored, a name that
// was taken, a stop, and then what the peer did.
func OutcomeOf(err error, payload int64) Outcome {
	if err == nil && payload > 0 {
		return OutcomeReceived
	}
	if err == nil {
		return OutcomeEmpty
	}
	for _, o := range worst {
		if errors.Is(err, outcomes[o].cause) {
			return o
		}
	}
	return OutcomeFailed
}

// worst are the outcomes that have a cause, the worst first.
var worst = [...]Outcome{
	OutcomeReport, OutcomePanic, OutcomeStorage, OutcomeConflict, OutcomeShutdown, OutcomeNoSpace,
	OutcomeRejected,
	OutcomeTooLarge, OutcomeTooLong, OutcomeTooSlow, OutcomeSlowHandshake, OutcomeTooMany,
	OutcomeProtocol, OutcomeIdle, OutcomeReset,
}

// outcomes are what is known of each.
var outcomes = [...]struct {
	name  string
	cause error
}{
	OutcomeFailed:        {"failed", nil},
	OutcomeReceived:      {"received", nil},
	OutcomeEmpty:         {"empty", nil},
	OutcomeIdle:          {"idle", ErrIdle},
	OutcomeProtocol:      {"protocol", ErrProtocol},
	OutcomeReset:         {"reset", ErrReset},
	OutcomeShutdown:      {"shutdown", ErrShutdown},
	OutcomeStorage:       {"storage", ErrStorage},
	OutcomeReport:        {"report", ErrReport},
	OutcomePanic:         {"panic", ErrPanic},
	OutcomeTooLarge:      {"too-large", ErrTooLarge},
	OutcomeTooLong:       {"too-long", ErrTooLong},
	OutcomeTooSlow:       {"too-slow", ErrTooSlow},
	OutcomeSlowHandshake: {"slow-handshake", ErrSlowHandshake},
	OutcomeTooMany:       {"too-many", ErrTooMany},
	OutcomeNoSpace:       {"no-space", ErrNoSpace},
	OutcomeRejected:      {"rejected", ErrRejected},
	OutcomeConflict:      {"conflict", ErrConflict},
}

// Outcomes returns all there are, in order: that at i is Outcome(i).
func Outcomes() []Outcome {
	all := make([]Outcome, len(outcomes))
	for i := range all {
		all[i] = Outcome(i)
	}
	return all
}

// String returns a word of small letters, with hyphens in between, that stays what
// it is: for a log, or as a label of what is counted.
func (o Outcome) String() string {
	if int(o) < len(outcomes) {
		return outcomes[o].name
	}
	return outcomes[OutcomeFailed].name
}

// OK reports whether the connection ended as it should.
func (o Outcome) OK() bool { return o == OutcomeReceived || o == OutcomeEmpty }
