// Package conformance grades programs that speak the Accio protocol: server-s,
// which counts, server, which saves, and client, which sends. It knows nothing of
// how they are written: it runs the commands it is given and judges them by their
// sockets, exit codes, output and files.
//
//	report, err := conformance.Suite{
//		Commands: map[conformance.Program]string{conformance.Server: "python3 server.py"},
//	}.Run(ctx)
//	if err == nil {
//		report.WriteText(os.Stdout, false)
//	}
//
// What is asked of a program is a list of [Criterion]. Each is tried on its own:
// a fresh directory, a free port, a process of its own, which is killed with
// its children afterwards. The kit plays the other side by scripts, and keeps what
// went over the wire, so that a failure shows what was expected, what was seen and
// the bytes with their times.
//
// A criterion that is required is as lenient as the protocol allows. What goes
// beyond (how fast, how exactly, after which accidents) is asked by others, which
// are not required. Who is late by no more than a busy machine could explain is
// asked again, alone.
//
// Slow networks are made in two ways. A proxy between the two sides is always
// there. Where this process may make network namespaces, there is also a cable
// between two of them, which loses packets and brings them late and out of order:
// by the kernel's netem, or else by a wire of the kit's own.
//
// Programs are run on Unix only: what is asked of them has to do with its signals.
// What reads /proc is asked on Linux only, and skipped elsewhere.
package conformance
