// Package memnet is a network in memory for tests: connections ([Pair]), a [Listener], and
// a [Peer] that takes a list of steps on its end of a connection.
//
// A [Conn] behaves as a TCP connection on Linux, unlike net.Pipe: a write does not wait
// for its reader, each direction ends by itself, and a connection can be reset. The
// result is deterministic: bytes have arrived when Write returns, and Read returns bytes
// of one Write only, so the writer decides how a stream is split.
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
// Every wait is durable in the sense of testing/synctest. Use a connection only in the
// bubble that made it. Only [Peer.Start] starts a goroutine, and no value needs a Close.
//
// The package imports the standard library only.
package memnet
