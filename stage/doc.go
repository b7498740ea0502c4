// Package stage is what happens on one connection of a streaming server: a
// chain of stages, each of which does one thing.
//
// # The way of the bytes
//
// A connection is a [Conn]. What the peer sends comes out of its In, what is
// said to the peer goes into its Reply, and the payload goes to its Out. A
// [Stage] is middleware, as around a net/http handler: it may talk to the peer,
// put a reader in front of In or a writer in front of Out, call the next
// handler, and act on how that ended. [Receive], at the end of the chain, copies
// In to Out:
//
//	h := stage.Chain{
//		stage.Save{Store: store, Name: stage.NumberedFile, Mark: stage.ErrorMark},
//		stage.Recover{},
//		stage.Count{},
//		stage.Idle{Limit: 10 * time.Second},
//		stage.Handshake{Script: stage.Accio},
//	}.Then(stage.Receive)
//
//	err := stage.Serve(ctx, conn, 1, h)
//
// The first stage is the outermost. Save sets the sink, and sees last how the
// connection ended, so that it commits or throws away whatever the stages
// inside it found. [Serve] then closes the connection: orderly if all went
// well, with a reset if the peer could mistake the close for success.
//
// # Why a connection ended
//
// A chain returns nil or an error that says why, for errors.Is: [ErrIdle],
// [ErrProtocol], [ErrReset], [ErrShutdown], [ErrStorage] and so on.
//
// # Zero-copy
//
// A stage that only has to know how many bytes pass, or to decide how many may,
// is a [Gate] before a reader ([NewReader]) or writer ([NewWriter]). All payload
// goes through [Copy], which asks the gates around each transfer and has the
// kernel move the bytes from the connection to the file; with any number of
// gates they never enter user space. A stage that must see the bytes puts an
// io.Reader or io.Writer of its own in the way, and every byte of its chain, and
// of no other, passes through it.
//
// The gates, readers and writers work on any io.Reader and io.Writer, without a
// chain.
//
// # Dependencies
//
// The package imports the standard library only. Where connections come from
// (package transport, say) and where payloads go (package fs, say) are small
// interfaces here.
package stage
