package conformance

import (
	"slices"
	"testing"
	"time"
)

func TestTheConnectionThatFailedIsAmongThoseThatAreShown(t *testing.T) {
	tr := &trial{ctx: t.Context()}
	tr.tapes.start = time.Now()
	clients := make([]witness, 200)
	for i := range clients {
		clients[i] = witness{trial: tr, tape: tr.tapes.tape()}
		clients[i].tape.note("connected")
	}
	clients[117].ensure(true, "what is", "what is")
	clients[117].ensure(false, "this", "that")
	clients[118].fail("what follows", "from that")
	shown, left := tr.tapes.events()
	var conns []int
	for _, e := range shown {
		conns = append(conns, e.Conn)
	}
	if !slices.Equal(conns, []int{1, 2, 3, 4, 118, 200, 118}) || left != 200-6 {
		t.Errorf("events of %v are shown, and %d left out", conns, left)
	}
	if tr.failure == nil || tr.failure.Expected != "this" || tr.failure.Seen != "that" {
		t.Errorf("the failure is %+v", tr.failure)
	}
}
