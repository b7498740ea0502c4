package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestOutcomeOf(t *testing.T) {
	of := map[error]Outcome{
		ErrIdle: OutcomeIdle, ErrProtocol: OutcomeProtocol, ErrReset: OutcomeReset, ErrShutdown: OutcomeShutdown,
		ErrStorage: OutcomeStorage, ErrReport: OutcomeReport, ErrPanic: OutcomePanic, ErrTooLarge: OutcomeTooLarge,
		ErrTooLong: OutcomeTooLong, ErrTooSlow: OutcomeTooSlow, ErrSlowHandshake: OutcomeSlowHandshake,
		ErrTooMany: OutcomeTooMany, ErrNoSpace: OutcomeNoSpace, ErrRejected: OutcomeRejected, ErrConflict: OutcomeConflict,
		errOne: OutcomeFailed, io.EOF: OutcomeFailed, context.Canceled: OutcomeFailed, ErrLimit: OutcomeFailed,
	}
	type test struct {
		err     error
		payload int64
		want    Outcome
	}
	tests := []test{
		{nil, 1, OutcomeReceived}, {nil, 1 << 40, OutcomeReceived}, {nil, 0, OutcomeEmpty},
		{errUnwinding, 7, OutcomePanic},
		{&PanicError{Value: "at the wrong moment"}, 0, OutcomePanic},
		{errors.Join(ErrIdle, because(ErrReport, io.ErrClosedPipe)), 0, OutcomeReport},
		{fmt.Errorf("%w (and %w)", ErrIdle, ErrStorage), 0, OutcomeStorage},
		{fmt.Errorf("%w (and %w)", ErrTooSlow, ErrStorage), 0, OutcomeStorage},
		{fmt.Errorf("%w (and %w)", ErrConflict, ErrStorage), 0, OutcomeStorage},
		{fmt.Errorf("%w (and %w)", ErrShutdown, ErrConflict), 0, OutcomeConflict},
		{fmt.Errorf("%w (and %w)", ErrShutdown, ErrTooLong), 0, OutcomeShutdown},
	}
	seen := map[Outcome]bool{OutcomeReceived: true, OutcomeEmpty: true}
	for err, want := range of {
		tests = append(tests, test{err, 0, want}, test{err, 9, want}, test{because(err, errOne), 9, want})
		seen[want] = true
	}
	for _, tt := range tests {
		if got := OutcomeOf(tt.err, tt.payload); got != tt.want {
			t.Errorf("%v after %d bytes is %v, want %v", tt.err, tt.payload, got, tt.want)
		}
	}
	for _, o := range Outcomes() {
		if !seen[o] {
			t.Errorf("nothing has the outcome %v", o)
		}
	}
}

func TestOutcomesHaveNamesOfTheirOwn(t *testing.T) {
	names := map[string]bool{}
	for i, o := range Outcomes() {
		if int(o) != i {
			t.Errorf("outcome %d is %d", i, o)
		}
		name := o.String()
		if name == "" || names[name] || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz-") != "" {
			t.Errorf("%d is called %q", o, name)
		}
		names[name] = true
	}
	if none := Outcome(len(Outcomes())); none.String() != "failed" {
		t.Errorf("what is no outcome is called %q", none)
	}
}

func TestOutcomesAreWellOrNot(t *testing.T) {
	for _, o := range Outcomes() {
		if want := o == OutcomeReceived || o == OutcomeEmpty; o.OK() != want {
			t.Errorf("%v: %t, want %t", o, o.OK(), want)
		}
	}
}

func TestAnOutcomeCostsNoAllocation(t *testing.T) {
	err := because(ErrReset, errOne)
	if n := testing.AllocsPerRun(100, func() {
		if OutcomeOf(nil, 1).String() != "received" || OutcomeOf(err, 1) != OutcomeReset {
			t.Error("wrong")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
