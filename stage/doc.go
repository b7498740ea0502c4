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
// well, with a reset if the peer could mistake the close for success. A [Session] is
// the same for a server of many connections that are silent most of the time: they
// take no goroutine while they are. [Sessions] makes them for it.
//
// A stage that acts before and after what is inside it, and lets it alone
// meanwhile, is a [Bracket]: however many follow each other, they are called in
// turn and not one within the other, which keeps stacks small, and lets a Session be
// left. [Stage] has all that a stage owes those around it. Where a panic is to end its
// connection only, [Recover] does that, or who called Serve, as the accept loop of
// package transport does.
//
// # The stages
//
// Those that speak with the peer: [Handshake] has a dialogue before the payload,
// [Receipt] a last word after it. [Sender] is the other side.
//
// Those that say where the payload goes: [Save] puts it into a [Store], whole or not
// at all, under a name such as [NumberedFile], [TimeName] and [RandomName] give, or
// one that is made of what arrived ([HashName]).
//
// Those that look on: [Count] counts the payload, [Hash] has its digest, [Observe]
// tells an [Observer] what becomes of a connection, [Log] writes a record of
// its end, and [Report] a line.
//
// Those that change what is read: [Decompress] expands it, [Frames] cuts it into frames,
// each of which is a payload of its own.
//
// Those that limit it are below.
//
// Others are in packages of their own, for what they import or what they are about:
// tlsstage has TLS, proxyproto learns from a proxy who its clients are, throttle bounds
// what is taken in a second, and zstd is for Decompress.
//
// # Why a connection ended
//
// A chain returns nil or an error that says why, for errors.Is: [ErrIdle],
// [ErrProtocol], [ErrReset], [ErrShutdown], [ErrStorage] and so on. [OutcomeOf] makes
// that one of a few words, for who counts them.
//
// # Limits
//
// [Idle], [MaxDuration] and Limit of [Handshake] bound a connection's time, [MinRate]
// and [MaxSize] its payload, [MaxPerHost] and [MinFree] what all connections take
// together. They may stand beside each other: each has a [Deadline] of its own, and
// that limit applies which is reached first. All but Idle end a connection with an
// [ErrLimit].
//
// # Zero-copy
//
// All payload goes through [Copy], which has the kernel move it where it can: from
// a connection to a file by splice(2), to nowhere by recv(2) with MSG_TRUNC, from
// a file to a connection by sendfile(2). Then no byte of it enters user space, and a
// chain costs what a loop of those calls costs. That needs both ends to be what
// the kernel knows: a *net.TCPConn, a *net.UnixConn or an *os.File, or a [Filer].
// Any Reader or Writer of another type in between is called, and sees every byte;
// that a type embeds a *net.TCPConn does not help, since it may have a Read of its
// own.
//
// So a stage keeps zero-copy if it puts nothing in the way but a [Gate]: by
// [NewReader] before c.In, to know what has come and to decide how much may, or by
// [NewWriter] before c.Out, where only what was stored is seen. Its Allow is asked
// before each transfer, of some MiB at the most, and may wait, refuse, or allow less; its
// Passed is told what became of it. The example of Gate limits a stream, the one
// of Bracket puts that into a chain, and Counter, IdleGate, StallGate and what the
// limits put there are gates as well. A stage keeps it also if it reads and writes only what belongs to a
// dialogue, by c.In and c.Reply, as [Handshake] does: not one byte more is taken.
//
// A stage that must see the payload, a hash or a decompressor, puts a Reader or
// Writer of its own there and says so in its comment. That is the end of zero-copy
// for the chains that have it, and for no others. There the payload goes through a
// buffer from a pool.
//
// On Linux a connection that waits for its peer holds no such buffer, as long as nothing
// but gates is between Copy and a TCP or Unix stream connection, whatever the
// sink is. Before a Reader of another type, such as that of TLS, and on other systems,
// Copy waits in its Read, with a buffer: of 4 KiB if the Read before brought less than that,
// as at the beginning, and otherwise of 64 KiB. A handler that reads by a buffer of its
// own holds that. Where many wait like that, it is memory to be counted.
//
// Less than a page at a time, such as a small upload or what a slow peer sends, is
// copied, too: that costs less than to splice it. Whether the kernel moves a
// payload can be seen in the system's count of what a process has read and written
// (rchar and wchar in /proc/PID/io), to which splice adds nothing.
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
