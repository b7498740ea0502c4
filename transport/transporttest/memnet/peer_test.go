package memnet

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestPeer(t *testing.T) {
	tests := []struct {
		name  string
		peer  Peer   // on one end
		other Peer   // on the other, before
		fails string // a part of the error, or nothing
	}{
		{"hears what is said, however it is cut", Peer{Hear("hello"), Hear(", world"), Fin}, Peer{Say("he", "llo, wo", "rld"), HalfClose}, ""},
		{"hears another word", Peer{Hear("hello")}, Peer{Say("help")}, `step 1 of 1: heard "help", want "hello"`},
		{"hears half of it", Peer{Hear(""), Hear("hello")}, Peer{Say("he"), HalfClose}, `step 2 of 2: heard "he", want "hello": EOF`},
		{"hears it at once", Peer{HearAtOnce("hello"), Rst}, Peer{Say("hello"), Reset}, ""},
		{"hears it in pieces", Peer{HearAtOnce("hello")}, Peer{Say("hel", "lo")}, `heard "hel" in one piece`},
		{"hears more with it", Peer{HearAtOnce("hello")}, Peer{Say("hello!")}, `heard "hello!" in one piece`},
		{"hears nothing", Peer{HearNothing(time.Hour), HearNothing(time.Hour)}, nil, ""},
		{"hears something", Peer{HearNothing(time.Hour)}, Peer{Say("x")}, `heard "x", want nothing`},
		{"hears the end", Peer{HearNothing(time.Hour)}, Peer{net.Conn.Close}, "EOF"},
		{"expects an orderly close, and sees a reset", Peer{Fin}, Peer{Reset}, "want an orderly close"},
		{"expects a reset, and sees an orderly close", Peer{Rst}, Peer{net.Conn.Close}, "want a reset"},
		{"expects an end, and hears a word", Peer{Fin}, Peer{Say("x"), net.Conn.Close}, `heard "x", want an orderly close`},
		{"says nothing any more", Peer{net.Conn.Close, Say("x")}, nil, "step 2 of 2"},
		{"goes on after its end", Peer{HalfClose, Hear("x"), Fin, net.Conn.Close}, Peer{Say("x"), HalfClose}, ""},
		{"does something of its own", Peer{func(net.Conn) error { return os.ErrExist }}, nil, "already exists"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := Pair()
				if err := test.other.Play(b); err != nil {
					t.Fatal(err)
				}
				err := test.peer.Start(a)()
				if (err != nil) != (test.fails != "") || err != nil && !strings.Contains(err.Error(), test.fails) {
					t.Errorf("%v, want %q", err, test.fails)
				}
			})
		})
	}
}

func TestCutPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Pair()
		start := time.Now()
		slow := Cut(a, 1, time.Minute)
		end := Peer{Pause(time.Hour), Say("slow")}.Start(slow)
		got := make([]byte, 4)
		_, err := io.ReadFull(b, got)
		if string(got) != "slow" || err != nil || time.Since(start) != time.Hour+3*time.Minute {
			t.Errorf("read %q, %v, in %v", got, err, time.Since(start))
		}
		if err := end(); err != nil {
			t.Error(err)
		}
		Peer{Reset}.Play(slow)
		if err := Rst(b); err != nil {
			t.Error(err)
		}
	})
}

func TestPeerOverPipe(t *testing.T) {
	a, b := net.Pipe()
	end := Peer{Say("x"), HalfClose}.Start(Cut(a, 1, 0))
	if err := (Peer{Hear("x"), Fin, Reset}).Play(b); err != nil {
		t.Error(err)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
	if err := Rst(b); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
}

func TestGather(t *testing.T) {
	tests := map[string]Peer{
		"when the peer listens":   {Say("one", "two"), Hear("x")},
		"when it ends its stream": {Say("one"), Say("two"), HalfClose},
		"when it closes":          {Say("one", "two"), net.Conn.Close},
		"when it resets":          {Say("one", "two"), Reset},
	}
	for name, peer := range tests {
		t.Run(name, func(t *testing.T) {
			a, b := Pair()
			end := peer.Start(Gather(a))
			if err := HearAtOnce("onetwo")(b); err != nil {
				t.Error(err)
			}
			Say("x")(b) // to whom it may concern
			if err := end(); err != nil {
				t.Error(err)
			}
		})
	}
	a, _ := Pair()
	a.Close()
	if _, err := (&gathered{Conn: a, held: []byte("x")}).Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a Read after what cannot be written: %v", err)
	}
}
