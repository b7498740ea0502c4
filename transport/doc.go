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
//
// What happens on a connection is not this package's matter. Package stage has
// it: its Serve takes what a Handler is given. The package imports the standard
// library only.
package transport
