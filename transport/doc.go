// Package transport is how connections come in: listening, the accept loop, how
// many are served at a time, and shutdown.
//
// A [Server] accepts connections from a net.Listener, numbers them, and has a
// [Handler] serve each. Its [Scheduler] takes a slot before a connection is
// accepted, so that beyond the limit connections wait in the kernel's queue:
// [Sequential] serves one at a time, [NewPool] up to so many.
//
//	ln, err := transport.Listen(ctx, 5000)
//	…
//	srv := transport.Server{
//		Handler:   transport.HandlerFunc(serve),
//		Scheduler: transport.NewPool(100),
//		Grace:     time.Second,
//	}
//	err = srv.Serve(ctx, ln) // until ctx is cancelled
//
// The loop outlives whatever clients do: it neither ends nor spins when
// descriptors run out, and a panic in one connection ends that connection.
// [MaxConns] tells for how many there are descriptors.
//
// Numbers are given in order of acceptance: from 1, by a [Counter] that goes on where
// an earlier server has stopped, or by [Numbers] of one's own.
//
// A stop is the end of ctx. Nothing is accepted from then on. Clients may finish for
// as long as Drain says, which a Hurry ends; then the contexts of all that are left are
// cancelled, and after Grace their connections are reset, so that no client
// takes the end of the process for success.
//
// [Listen] is TCP on all IPv4 addresses. Anything else that is a net.Listener will do,
// such as a Unix socket; TLS is better a stage (package tlsstage) than a listener, since
// a handler gets the system's connection then.
//
// A connection has a goroutine for as long as its Handler takes. Where many are
// silent most of the time that is mostly stacks that wait; a [SessionHandler] can
// leave them meanwhile, on Linux, and they take a few hundred bytes here and what
// package net and the system need.
//
// What happens on a connection is not this package's matter. Package stage has
// it: its Serve takes what a Handler is given, and its Sessions are what a
// SessionHandler is given:
//
//	srv := transport.Server{Handler: transport.SessionHandler(stage.Sessions(chain))}
//
// The package imports the standard library only.
package transport
