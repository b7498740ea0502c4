// Package memnet is a network in memory, for tests of what is done on connections:
// the two ends of one ([Pair]), a [Listener] to which connections can be made, and a
// [Peer] that does on its end what a list of steps says.
//
// A [Conn] is as a TCP connection is where net.Pipe is not. A write does not wait for
// its reader, one direction can end before the other, and a connection can be reset;
// errors are those that Linux has. Nothing in it is left to chance: a byte has arrived
// when the Write of it returns, and a Read returns bytes of one Write only, so that who
// writes decides how a stream is cut.
//
//	server, client := memnet.Pair()
//	end := memnet.Peer{
//		memnet.Hear("welcome\r\n"), memnet.Say("pay", "load"), memnet.HalfClose, memnet.Fin,
//	}.Start(client)
//	…
//	if err := end(); err != nil {
//		t.Error(err)
//	}
//
// Whatever waits here does so durably in the sense of testing/synctest, so that in a
// bubble an hour takes no time. Connections are to be used in the bubble in which they
// were made. Nothing has a goroutine of its own but [Peer.Start], and nothing has to be
// closed to be freed.
//
// The package imports the standard library only, and knows nothing of package
// transport or stage.
package memnet
