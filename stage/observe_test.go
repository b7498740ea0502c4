package stage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// notes are what an observer of it was told, in order.
type notes struct {
	name string
	c    *Conn
	log  *[]string
}

func (n notes) note(s string)  { *n.log = append(*n.log, n.name+s) }
func (n notes) HandshakeDone() { n.note("handshake done") }
func (n notes) Passed(m int)   { n.note(fmt.Sprintf("passed %d of %d", m, n.c.Counter.Count())) }
func (n notes) Received()      { n.note("received") }
func (n notes) Ended(err error) {
	n.note("ended " + OutcomeOf(err, n.c.Counter.Count()).String())
}

// noteIn is a stage that has an observer, by that name, note in log.
func noteIn(log *[]string, name string) Stage {
	return Observe{Accepted: func(c *Conn) Observer {
		*log = append(*log, name+"accepted")
		return notes{name, c, log}
	}}
}

func TestObserve(t *testing.T) {
	save := func(fault map[string]error) Stage {
		s := newMapStore()
		s.fault = faults(fault)
		return Save{Store: s, Name: NumberedFile, Mark: ErrorMark}
	}
	confirms := []act{hears(accioGreeting), says(accioConfirm), hears(accioGreeting), says(accioConfirmAgain)}
	for _, tt := range []struct {
		name  string
		chain Chain // inside of Observe
		h     Handler
		peer  []act
		want  string
	}{
		{"nothing but a payload", nil, Receive, []act{says("pay"), says("load"), ends},
			"accepted, passed 3 of 3, passed 4 of 7, received, ended received"},
		{"no payload", nil, Receive, []act{ends}, "accepted, received, ended empty"},
		{"a handshake and a payload", Chain{save(nil), Handshake{Script: Accio}}, Receive, append(slices.Clone(confirms), says("payload"), ends),
			"accepted, handshake done, passed 7 of 7, received, ended received"},
		{"a handshake with a limit", Chain{Handshake{Script: Accio, Limit: patience}}, Receive, append(slices.Clone(confirms), ends),
			"accepted, handshake done, received, ended empty"},
		{"an early end", Chain{save(nil), Handshake{Script: Accio, Limit: patience}}, Receive, []act{hears(accioGreeting), ends},
			"accepted, handshake done, received, ended empty"},
		{"an early end that is not allowed", Chain{save(nil), Handshake{Script: strict()}}, Receive, []act{hears(accioGreeting), ends},
			"accepted, ended protocol"},
		{"two handshakes", Chain{Handshake{Script: Script{}}, Handshake{Script: Script{Steps: []Step{{Expect: "hi"}}}}}, Receive, []act{says("hi"), ends},
			"accepted, handshake done, handshake done, received, ended empty"},
		{"a wrong word", Chain{save(nil), Handshake{Script: Accio}}, Receive, []act{hears(accioGreeting), says("x")},
			"accepted, ended protocol"},
		{"a sink that is set twice", Chain{Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
			c.SetSink(new(bytes.Buffer))
			return nil, nil
		}), save(nil)}, Receive, []act{says("payload"), ends},
			"accepted, passed 7 of 7, received, ended received"},
		{"Save in Save", Chain{save(nil), save(nil)}, Receive, []act{says("payload"), ends},
			"accepted, ended failed"},
		{"a counter of its own", Chain{Count{}, save(nil), Count{}}, Receive, []act{says("payload"), ends},
			"accepted, passed 7 of 7, received, ended received"},
		{"a store that fails at the first byte", Chain{save(map[string]error{"create 1": errOne})}, Receive, []act{says("payload"), ends},
			"accepted, ended storage"},
		{"a store that fails in a write", Chain{save(map[string]error{"write 1": errOne})}, Receive, []act{says("payload"), ends},
			"accepted, passed 3 of 3, ended storage"},
		{"a failure that the handler overlooks", Chain{save(map[string]error{"create 1": errOne})}, sends(nil, "payload"), []act{ends},
			"accepted, ended storage"},
		{"a store that fails in the commit", Chain{save(map[string]error{"commit": errOne})}, Receive, []act{says("payload"), ends},
			"accepted, passed 7 of 7, received, ended storage"},
		{"a silent peer", Chain{save(nil), Idle{Limit: time.Second}}, Receive, []act{says("pay"), pauses(time.Hour)},
			"accepted, passed 3 of 3, ended idle"},
		{"a panic", Chain{save(nil)}, handlerThatPanics("x"), nil, "accepted, ended panic"},
		{"a panic that is caught", Chain{Recover{}}, handlerThatPanics("x"), nil, "accepted, ended panic"},
		{"frames", Chain{inFrames("one", "three"), save(nil)}, Receive, nil,
			"accepted, passed 3 of 3, passed 5 of 8, received, ended received"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log []string
				server, client := net.Pipe()
				done := play(client, tt.peer...)
				Serve(t.Context(), server, 1, append(Chain{Recover{}, noteIn(&log, "")}, tt.chain...).Then(tt.h))
				client.Close()
				<-done
				if got := strings.Join(log, ", "); got != tt.want {
					t.Errorf("observed %s; want %s", got, tt.want)
				}
			})
		})
	}
}

// Several observe what is inside of each, and no more.
func TestObserveTwice(t *testing.T) {
	var log []string
	server, client := net.Pipe()
	done := play(client, says("hi"), says("payload"), ends)
	h := Chain{
		noteIn(&log, "a "), Observe{Accepted: func(*Conn) Observer { return nil }},
		Save{Store: newMapStore(), Name: NumberedFile}, noteIn(&log, "b "),
		Handshake{Script: Script{Steps: []Step{{Expect: "hi"}}}}, noteIn(&log, "c "),
	}.Then(Receive)
	if err := Serve(t.Context(), server, 1, h); err != nil {
		t.Error(err)
	}
	<-done
	want := []string{
		"a accepted", "b accepted", "b handshake done", "a handshake done", "c accepted",
		"c passed 7 of 7", "b passed 7 of 7", "a passed 7 of 7",
		"c received", "c ended received", "b received", "b ended received", "a received", "a ended received",
	}
	if !slices.Equal(log, want) {
		t.Errorf("observed\n%q, want\n%q", log, want)
	}
}

// Who was told of the end is told nothing more, whatever the stages outside make of it.
func TestObserveEndIsLast(t *testing.T) {
	var log []string
	overlooks := Bracket(func(context.Context, *Conn) (func(error) error, error) {
		return func(error) error { return nil }, nil
	})
	server, client := net.Pipe()
	defer client.Close()
	h := Chain{noteIn(&log, "a "), Save{Store: newMapStore(), Name: NumberedFile}, overlooks, noteIn(&log, "b ")}.Then(stops(errOne))
	if err := Serve(t.Context(), server, 1, h); err != nil {
		t.Error(err)
	}
	want := []string{"a accepted", "b accepted", "b ended failed", "a received", "a ended empty"}
	if !slices.Equal(log, want) {
		t.Errorf("observed %q, want %q", log, want)
	}
}

// panics is an Observer that does, in one of its methods.
type panics struct {
	in    string
	ended *[]error
}

func (p panics) at(s string) {
	if p.in == s {
		panic(s)
	}
}
func (p panics) HandshakeDone()  { p.at("handshake") }
func (p panics) Passed(int)      { p.at("passed") }
func (p panics) Received()       { p.at("received") }
func (p panics) Ended(err error) { *p.ended = append(*p.ended, err); p.at("ended") }

func TestObserveObserverPanics(t *testing.T) {
	for _, in := range []string{"accepted", "handshake", "passed", "received", "ended"} {
		for _, saves := range []bool{false, true} {
			var ended, outside []error
			store := newMapStore()
			chain := Chain{
				Recover{},
				Observe{Accepted: func(*Conn) Observer { return panics{"", &outside} }},
				Observe{Accepted: func(*Conn) Observer {
					p := panics{in, &ended}
					p.at("accepted")
					return p
				}},
			}
			if saves {
				chain = append(chain, Save{Store: store, Name: NumberedFile})
			}
			server, client := net.Pipe()
			done := play(client, says("hi"), says("payload"), ends)
			h := append(chain, Handshake{Script: Script{Steps: []Step{{Expect: "hi"}}}}).Then(Receive)
			if err := Serve(t.Context(), server, 1, h); !errors.Is(err, ErrPanic) {
				t.Errorf("%s: ended with %v", in, err)
			}
			client.Close()
			<-done
			want := 1
			if in == "accepted" {
				want = 0
			}
			if len(ended) != want || want == 1 && in != "ended" && !errors.Is(ended[0], ErrPanic) {
				t.Errorf("%s: told %v", in, ended)
			}
			if len(outside) != 1 || !errors.Is(outside[0], ErrPanic) {
				t.Errorf("%s: the one outside was told %v", in, outside)
			}
			if saves && in != "ended" && len(store.files) > 0 {
				t.Errorf("%s: stored %v", in, store.files)
			}
			if in == "received" && saves && !store.saw("abort") {
				t.Errorf("what had come is still in the store, which saw %q", store.log)
			}
		}
	}
}

func TestObserveWithoutAccepted(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("Wrap did not panic")
		}
	}()
	Observe{}.Wrap(Receive)
}

// What nobody observes costs nothing for being observable, and what somebody does
// nothing for each transfer.
func TestObserveAllocations(t *testing.T) {
	c := new(Conn)
	if n := testing.AllocsPerRun(1000, func() { c.HandshakeDone(); c.received() }); n != 0 {
		t.Errorf("%v allocations for nobody", n)
	}
	c.observations = &observation{Observer: nopObserver{}, conn: c}
	gatesCostNoAllocation(t, map[string]Gate{"Observe": (*observerGate)(c)})
	if n := testing.AllocsPerRun(1000, func() { c.HandshakeDone(); c.received() }); n != 0 {
		t.Errorf("%v allocations for somebody", n)
	}
}

// inFrames is a stage that calls the next handler once for each payload.
func inFrames(payloads ...string) Stage {
	return StageFunc(func(next Handler) Handler {
		return HandlerFunc(func(ctx context.Context, c *Conn) error {
			for i, payload := range payloads {
				if err := next.Serve(ctx, c.NewFrame(nil, uint64(i+1), strings.NewReader(payload))); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func TestObserveHandshakesOfFrames(t *testing.T) {
	var log []string
	own := Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
		c.HandshakeDone()
		return nil, nil
	})
	chain := Chain{noteIn(&log, ""), inFrames("hi a", "hi b"), Handshake{Script: Script{Steps: []Step{{Expect: "hi "}}}}, own}
	server, client := wire()
	if err := Serve(t.Context(), server, 1, chain.Then(Receive)); err != nil {
		t.Error(err)
	}
	client.Close()
	n := 0
	for _, s := range log {
		if s == "handshake done" {
			n++
		}
	}
	if n != 4 {
		t.Errorf("told of %d handshakes of 4: %q", n, log)
	}
}

type nopObserver struct{}

func (nopObserver) HandshakeDone() {}
func (nopObserver) Passed(int)     {}
func (nopObserver) Received()      {}
func (nopObserver) Ended(error)    {}
