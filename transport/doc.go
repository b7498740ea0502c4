// Package transport accepts connections: it listens, limits the connections served at a time,
// and shuts down.
//
// A [Server] accepts connections from a net.Listener, numbers them, and calls its Handler for
// each on a goroutine. Its [Scheduler] limits the connections served at a time: [Sequential]
// to one, [NewPool] to a number. The others wait in the listen backlog.
//
//	ln, err := transport.Listen(ctx, 5000)
//	…
//	srv := transport.Server{
//		Handler:   stage.ServeFunc(chain),
//		Scheduler: transport.NewPool(100),
//		Grace:     time.Second,
//	}
//	err = srv.Serve(ctx, ln) // until ctx is cancelled
//
// Clients cannot end the accept loop. It does not spin when descriptors run out, and a panic
// ends only its connection. [MaxConns] returns a limit for the descriptors of the process.
//
// [Numbers] numbers connections in order of acceptance, by default from 1. [NewCounter] can
// continue where an earlier server has stopped.
//
// Serve shuts down when its context is cancelled. It stops accepting, and clients can finish
// during Drain, or until DrainNow is closed. Then Serve cancels the contexts of the handlers
// left. After Grace it resets their connections, so that no client takes the end of the
// process for success.
//
// [Listen] listens for TCP on all IPv4 addresses. Any other net.Listener works as well. For
// TLS, use a stage (package tlsstage), so that a handler gets the connection of the system.
//
// The package imports the standard library only.
package transport
