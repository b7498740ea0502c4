package stage

import (
	"errors"
	"strings"
	"testing"
)

func TestCausesAreToldApart(t *testing.T) {
	causes := []error{ErrIdle, ErrProtocol, ErrReset, ErrShutdown, ErrStorage, ErrReport, ErrPanic, ErrGate,
		ErrTooLarge, ErrTooLong, ErrTooSlow, ErrSlowHandshake, ErrTooMany, ErrNoSpace, ErrRejected, ErrConflict}
	for i, a := range causes {
		err := because(a, errOne)
		for j, b := range causes {
			if errors.Is(err, b) != (i == j) {
				t.Errorf("%q is %q: %t", err, b, i != j)
			}
		}
		if !errors.Is(err, errOne) || !strings.Contains(err.Error(), errOne.Error()) {
			t.Errorf("%q hides what lies beneath", err)
		}
	}
	if !errors.Is(errUnwinding, ErrPanic) {
		t.Error("what a deferred function sees of a panic is not a panic")
	}
}
