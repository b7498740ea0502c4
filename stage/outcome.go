package stage

import "errors"

// Outcome is how a connection ended: one of a few kinds, which can be counted. The Outcome
// of a cause is OutcomeOf(cause, 0). The zero value is OutcomeFailed.
type Outcome uint8

// The outcomes that have no cause. The others follow them.
const (
	OutcomeFailed   Outcome = iota // for a reason that is none of the causes of this package
	OutcomeReceived                // well, with a payload
	OutcomeEmpty                   // well, without one
	firstCause
)

// causes are the causes of the outcomes from firstCause on. If an error has several, the
// first applies: the worst for the operator.
var causes = [...]struct {
	err  error
	name string
}{
	{ErrReport, "report"},
	{ErrPanic, "panic"},
	{ErrStorage, "storage"},
	{ErrConflict, "conflict"},
	{ErrShutdown, "shutdown"},
	{ErrNoSpace, "no-space"},
	{ErrRejected, "rejected"},
	{ErrTooLarge, "too-large"},
	{ErrTooLong, "too-long"},
	{ErrTooSlow, "too-slow"},
	{ErrSlowHandshake, "slow-handshake"},
	{ErrTooMany, "too-many"},
	{ErrProtocol, "protocol"},
	{ErrIdle, "idle"},
	{ErrReset, "reset"},
}

// OutcomeOf returns the outcome of a connection whose [Handler] returned err and whose
// payload had so many bytes. If err has several causes, the first of these applies:
// report, panic, storage, conflict, shutdown, then limits and faults of the client.
func OutcomeOf(err error, payload int64) Outcome {
	switch {
	case err == nil && payload > 0:
		return OutcomeReceived
	case err == nil:
		return OutcomeEmpty
	}
	for i, cause := range causes {
		if errors.Is(err, cause.err) {
			return firstCause + Outcome(i)
		}
	}
	return OutcomeFailed
}

// Outcomes returns all outcomes in order: the one at i is Outcome(i). The order may change
// between versions; String does not.
func Outcomes() []Outcome {
	all := make([]Outcome, int(firstCause)+len(causes))
	for i := range all {
		all[i] = Outcome(i)
	}
	return all
}

// String returns a word of lower-case letters and hyphens, for logs and metrics.
func (o Outcome) String() string {
	switch {
	case o == OutcomeReceived:
		return "received"
	case o == OutcomeEmpty:
		return "empty"
	case o.cause() == nil:
		return "failed"
	}
	return causes[o-firstCause].name
}

// cause returns the cause of o, or nil if it has none.
func (o Outcome) cause() error {
	if i := int(o) - int(firstCause); i >= 0 && i < len(causes) {
		return causes[i].err
	}
	return nil
}

// OK reports whether the connection ended as it should.
func (o Outcome) OK() bool { return o == OutcomeReceived || o == OutcomeEmpty }
