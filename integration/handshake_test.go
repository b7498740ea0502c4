//go:build linux

package integration

import (
	"fmt"
	"strings"
	"testing"
)

// Awkward payloads: what looks like a part of the handshake, what is not text,
// and sizes at which buffers end.
var payloads = []struct{ name, bytes string }{
	{"empty", ""},
	{"one byte", "x"},
	{"one zero byte", "\x00"},
	{"beginning with a line end", "\r\nhello"},
	{"nothing but line ends", "\r\n\r\n\r\n"},
	{"ending with a line end", "hello\r\n\r\n"},
	{"a greeting", greeting},
	{"the first confirmation", confirm},
	{"the second confirmation", again},
	{"the whole handshake again", header + header},
	{"greetings and confirmations in other bytes", "\x00accio\r\nconfirm-accio\r\n\xffaccio\r\n" + again},
	{"the word ERROR", "ERROR"},
	{"all values of a byte", everyByte},
	{"all values of a byte, many times", strings.Repeat(everyByte, 1000)},
	{"not UTF-8", "\xc3\x28\xff\xfe\xed\xa0\x80"},
	{"of 64 KiB less one", strings.Repeat("a", 64<<10-1)},
	{"of 64 KiB", strings.Repeat("b", 64<<10)},
	{"of 64 KiB and one", strings.Repeat("c", 64<<10+1)},
	{"of 1 MiB less one", strings.Repeat("d", 1<<20-1)},
	{"of 1 MiB", strings.Repeat("e", 1<<20)},
	{"of 1 MiB and one", strings.Repeat("f", 1<<20+1)},
	{"of 3 MiB and a bit", strings.Repeat(everyByte, 3<<12) + "bit"},
}

func TestPayloadsArriveAsTheyAre(t *testing.T) {
	busy(t)
	ways := []struct {
		name string
		send func(c *client, payload string) *client
	}{
		{"after the handshake", func(c *client, payload string) *client {
			return c.greet().send(payload)
		}},
		{"in one write with the second confirmation", func(c *client, payload string) *client {
			return c.hear(greeting).send(confirm).hear(greeting).send(again + payload)
		}},
		{"in one write with the handshake, before any greeting is heard", func(c *client, payload string) *client {
			return c.send(header + payload).hearAll(greeting + greeting)
		}},
		{"first byte with the handshake", func(c *client, payload string) *client {
			first := min(1, len(payload))
			return c.sendApart(header + payload[:first]).hearAll(greeting + greeting).send(payload[first:])
		}},
	}
	bothServers(t, func(t *testing.T, program string) {
		for _, way := range ways {
			t.Run(way.name, func(t *testing.T) {
				s := serve(t, program)
				for _, payload := range payloads {
					if err := way.send(s.connect(), payload.bytes).halfClose().fin(); err != nil {
						t.Errorf("payload %s: %v", payload.name, err)
					}
					s.outcome(received(payload.bytes))
				}
				s.stop()
			})
		}
	})
}

func TestTheHandshakeMayBeCutAnywhere(t *testing.T) {
	busy(t)
	const payload = "\r\naccio\r\n"
	all := header + payload
	cuts := [][]string{{all}, eachByte(all), {confirm, again, payload}, {confirm + again, payload}, {confirm, again + payload}}
	for i := 1; i < len(all); i++ {
		cuts = append(cuts, cutAt(all, i))
	}
	for i := 1; i < len(all)-7; i += 3 {
		cuts = append(cuts, []string{all[:i], all[i : i+7], all[i+7:]})
	}
	pay := func(n int) string { return fmt.Sprint(n) } // so that each can be told from the others

	t.Run("server", func(t *testing.T) {
		s := serve(t, "server")
		clients := queue(t, s.port, len(cuts))
		together(t, len(cuts), func(i int) error {
			return clients[i].sendApart(cuts[i]...).send(pay(i)).hearAll(greeting + greeting).halfClose().fin()
		})
		var want []outcome
		for i := range cuts {
			want = append(want, received(payload+pay(i)))
		}
		s.stop(want...)
	})
	t.Run("server-s", func(t *testing.T) {
		s := serve(t, "server-s")
		for i, cut := range cuts {
			check(t, s.connect().sendApart(cut...).send(pay(i)).hearAll(greeting+greeting).halfClose().fin())
			s.outcome(received(payload + pay(i)))
		}
		s.stop()
	})
}

// A client in the field takes a greeting as one message, and compares.
func TestEachGreetingComesAloneAndInItsTurn(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		s := serve(t, program)
		for n := range again {
			// The client waits for each greeting, so that a write for a part
			// of one would be a read for a part.
			first, second := cutAt(confirm, n%len(confirm)), cutAt(again, n)
			c := s.connect().hear(greeting).sendApart(first[0]).waiting().send(first[1])
			c.hear(greeting).sendApart(second[0]).waiting().send(second[1])
			check(t, c.halfClose().fin())
			s.outcome(received(""))
		}
		s.stop()
	})
}

// What the client has sent before it closed is all there, also if it has never
// listened, and its closed connection answers the greetings with resets.
func TestAClientMaySendAllAndCloseWithoutListening(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		s := serve(t, program)
		// While the program is stopped, the kernel takes what clients send. A
		// greeting that is there, unheard, when the client closes, would make
		// the kernel break the connection off instead of ending it.
		s.freeze()
		ways := []struct {
			pieces []string
			want   outcome
		}{
			{[]string{header + "hello"}, received("hello")},
			{[]string{confirm, again, "hello", "hello"}, received("hellohello")},
			{[]string{header}, received("")},
			{[]string{header[:len(header)-1]}, received("")},
			{[]string{confirm}, received("")},
			{[]string{confirm[:5]}, received("")},
			{nil, received("")},
			{[]string{header, strings.Repeat(everyByte, 100)}, received(strings.Repeat(everyByte, 100))},
			{[]string{confirm, "nonsense"}, failed},
			{[]string{"nonsense"}, failed},
		}
		clients := queue(t, s.port, len(ways))
		for i, way := range ways {
			check(t, clients[i].send(way.pieces...).close().err)
		}
		s.thaw()
		for _, way := range ways {
			s.outcome(way.want)
		}
		check(t, upload(s.port, "goodbye"))
		s.stop(received("goodbye"))
	})
}

// TCP has bytes that are marked as urgent, as telnet does in an emergency. They
// stand in the stream as all others do (RFC 6093), and are not its end.
func TestUrgentBytesArePayloadAsAllOthers(t *testing.T) {
	busy(t)
	long := strings.Repeat(everyByte, 400)
	tests := []struct{ name, before, urgent, after string }{
		{"in the middle", "abc", "D", "efg"},
		{"in the middle of much", long, "D", long},
		{"at the beginning", "", "A", "bcd"},
		{"at the end", "abc", "D", ""},
	}
	bothServers(t, func(t *testing.T, program string) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				s := serve(t, program)
				c := s.connect().greet().send(tt.before).taken().sendUrgent(tt.urgent).send(tt.after)
				if err := c.halfClose().fin(); err != nil {
					t.Error(err)
				}
				s.stop(received(tt.before + tt.urgent + tt.after))
			})
		}
	})
}

// The client in the field closes rather than half-closes.
func TestAClientMayCloseAtTheEndInsteadOfHalfClosing(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		s := serve(t, program)
		for _, payload := range payloads {
			check(t, s.connect().greet().send(payload.bytes).close().err)
			s.outcome(received(payload.bytes))
		}
		s.stop()
	})
}

func TestTheServersListenOnEveryAddress(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		s := serve(t, program) // which waits for a socket on 0.0.0.0
		for _, host := range []string{"127.0.0.1", "127.0.0.2", "127.255.255.254"} {
			check(t, connectTo(host, s.port).greet().send(host).halfClose().fin())
			s.outcome(received(host))
		}
		s.stop()
	})
}
