package stagetest

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/transport/transporttest/memnet"
)

// Subject is a stage that is to be tested, and what it claims.
type Subject struct {
	// New returns the stage with settings that let a payload through, and none that
	// end a connection before an hour is over. It is called for each check, mostly in a
	// bubble of testing/synctest; what the stage holds beyond its connections is to be
	// given back by t.Cleanup. It must not be nil.
	New func(t testing.TB) Instance

	// Before is what the peer does before it sends its payload: the other half of what
	// the stage says and hears. Nil means that it does not talk.
	Before memnet.Peer

	// After is what the peer does once it has ended its stream and before the connection
	// is closed in an orderly way: it hears the stage's last word. Nil means that there is
	// none.
	After memnet.Peer

	// Payload is what the peer sends then. Nil means some KiB of any bytes, and 2 MiB
	// where the check is about zero-copy. For a stage that cuts frames it is one frame.
	Payload []byte

	// Want is what of Payload reaches the sink. Nil means all of it as it is.
	Want []byte

	// ZeroCopy is the claim that with this stage in a chain, the kernel still moves the
	// payload from a TCP connection into a file. It is looked at on Linux only, and is
	// not for a stage that needs a Payload of less than 1 MiB.
	ZeroCopy bool

	// Recovers is the claim that a panic of the next handler becomes an error that is a
	// stage.ErrPanic. Otherwise it has to pass by.
	Recovers bool
}

// Instance is a stage, and how to look at what it does beside its connections. All but
// Stage may be nil.
type Instance struct {
	Stage stage.Stage

	// Stored is for a stage that sets the sink: it returns what has been stored for the
	// connection of that number. If it is nil the sink is that of the check, and the
	// stage has to leave the payload to it.
	Stored func(number uint64) ([]byte, error)

	// Ended is for a stage that acts when a connection has ended: it returns for how
	// many it has done so.
	Ended func() int
}

// TestStage tests a stage. Each rule is a subtest, whose failure says what the rule is
// and where it is written:
//
//   - payload: what the peer sends reaches the sink unchanged, however it is cut;
//   - next-once: the next handler is called once, or not at all;
//   - errors: those of the next handler, of the connection and of stages outside are passed
//     on, each cause that package stage knows as itself;
//   - panic: one of the next handler passes by, unless the stage is to recover;
//   - after: whatever ended a connection, the stage acts on it, and serves the next;
//   - closes-nothing: neither the connection nor the sink is closed;
//   - deadlines: none is left;
//   - goroutines: none is left;
//   - cancellation: a connection ends soon when its context is cancelled;
//   - allocations: to read and write takes none, once the payload flows;
//   - concurrency: many connections may pass at a time; the race detector has to be on
//     to see all there is to it;
//   - zero-copy: if that is claimed.
//
// It is not for a test that is parallel to others of its process where those take
// much memory: that is counted for the process.
func TestStage(t *testing.T, s Subject) {
	if s.New == nil {
		t.Fatal("stagetest: a Subject without New")
	}
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			if r.name == "zero-copy" && !s.ZeroCopy {
				t.Skip("it is not claimed")
			}
			r.check(&checking{T: t, rule: r, Subject: s})
		})
	}
}

// payload is what the peer sends, and what has to come of it.
func (s Subject) payload(size int) (send, want []byte) {
	send, want = s.Payload, s.Want
	if send == nil {
		send = make([]byte, size)
		for i := range send {
			send[i] = byte(i ^ i>>8 ^ i>>16)
		}
	}
	if want == nil {
		want = send
	}
	return send, want
}

// rule is one thing that package stage asks of a stage.
type rule struct {
	name  string
	text  string
	where string
	check func(c *checking)
}

// checking is a check under way.
type checking struct {
	*testing.T
	rule
	Subject
}

// broken says that the rule is, and how that was seen.
func (c *checking) broken(format string, args ...any) {
	c.Helper()
	c.Errorf(format+"\n\tthe rule: %s (%s)", append(args, c.text, c.where)...)
}

// differs says how what has come differs from what should have, or is empty.
func differs(got, want []byte) string {
	if bytes.Equal(got, want) {
		return ""
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("byte %d is %#x, want %#x; %d have come of %d", i, got[i], want[i], len(got), len(want))
		}
	}
	return fmt.Sprintf("%d bytes have come, want %d", len(got), len(want))
}
