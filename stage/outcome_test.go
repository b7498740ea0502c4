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
	of := map[error]string{
		ErrIdle: "idle", ErrProtocol: "protocol", ErrReset: "reset", ErrShutdown: "shutdown",
		ErrStorage: "storage", ErrReport: "report", ErrPanic: "panic", ErrTooLarge: "too-large",
		ErrTooLong: "too-long", ErrTooSlow: "too-slow", ErrSlowHandshake: "slow-handshake",
		ErrTooMany: "too-many", ErrNoSpace: "no-space", ErrRejected: "rejected", ErrConflict: "conflict",
		errOne: "failed", io.EOF: "failed", context.Canceled: "failed", ErrLimit: "failed",
	}
	type test struct {
		err     error
		payload int64
		want    string
	}
	tests := []test{
		{nil, 1, "received"}, {nil, 1 << 40, "received"}, {nil, 0, "empty"},
		{errUnwinding, 7, "panic"},
		{because(ErrPanic, &PanicError{Value: "at the wrong moment"}), 0, "panic"},
		{errors.Join(ErrIdle, because(ErrReport, io.ErrClosedPipe)), 0, "report"},
		{fmt.Errorf("%w (and %w)", ErrIdle, ErrStorage), 0, "storage"},
		{fmt.Errorf("%w (and %w)", ErrTooSlow, ErrStorage), 0, "storage"},
		{fmt.Errorf("%w (and %w)", ErrConflict, ErrStorage), 0, "storage"},
		{fmt.Errorf("%w (and %w)", ErrShutdown, ErrConflict), 0, "conflict"},
		{fmt.Errorf("%w (and %w)", ErrShutdown, ErrTooLong), 0, "shutdown"},
	}
	seen := map[string]bool{"received": true, "empty": true}
	for err, want := range of {
		tests = append(tests, test{err, 0, want}, test{err, 9, want}, test{because(err, errOne), 9, want})
		seen[want] = true
	}
	for _, tt := range tests {
		if got := OutcomeOf(tt.err, tt.payload).String(); got != tt.want {
			t.Errorf("%v after %d bytes is %v, want %v", tt.err, tt.payload, got, tt.want)
		}
	}
	for _, o := range Outcomes() {
		if !seen[o.String()] {
			t.Errorf("nothing has the outcome %v", o)
		}
	}
}

func TestOutcomeNames(t *testing.T) {
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

func TestOutcomeOK(t *testing.T) {
	for _, o := range Outcomes() {
		if want := o == OutcomeReceived || o == OutcomeEmpty; o.OK() != want {
			t.Errorf("%v: %t, want %t", o, o.OK(), want)
		}
	}
}

func TestOutcomeAllocations(t *testing.T) {
	err := because(ErrReset, errOne)
	if n := testing.AllocsPerRun(100, func() {
		if OutcomeOf(nil, 1).String() != "received" || OutcomeOf(err, 1).String() != "reset" {
			t.Error("wrong")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
