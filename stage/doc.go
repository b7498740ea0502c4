// Package stage serves one connection of a streaming server by a chain of stages, each of
// which does one thing.
//
// # The path of the bytes
//
// A connection is a [Conn]: In reads from the client, Reply writes to the client, and Out
// takes the payload. A [Stage] is middleware, as around a net/http handler. It may talk
// to the client, and put a reader in front of In or a writer in front of Out. It calls
// the next handler, and may act on its result. [Receive], at the end of the chain, copies
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
// The first stage is the outermost. Save sets the sink and sees last how the connection
// ended, so it commits or aborts whatever the stages inside it did. [Serve] then closes the
// connection: orderly if all went well, with a reset if the client could mistake the close
// for success.
//
// A stage that acts before the handler inside it and after, and does nothing in between, is a
// [Bracket]. [Stage] has the rules that all stages keep. Where a panic must end its
// connection only, use [Recover], or an accept loop that recovers, such as a
// transport.Server.
//
// # The stages
//
//	talk to the client   Handshake before the payload, Receipt after it
//	store the payload    Save, under a name of NumberedFile, TimeName, RandomName or HashName
//	observe              Count, Hash, Observe, Log, Report
//	limit time           Idle, MaxDuration, the Limit of Handshake
//	limit the payload    MaxSize, MinRate
//	limit all together   MaxPerHost, MinFree
//	contain panics       Recover
//
// Further stages are in packages: frames cuts a stream into frames, decompress expands
// it, throttle bounds its rate, tlsstage has TLS, proxyproto reads the PROXY protocol.
// Package send is the client's side.
//
// # Why a connection ended
//
// A chain returns nil, or an error that wraps a cause: [ErrIdle], [ErrProtocol],
// [ErrReset], [ErrShutdown], [ErrStorage] and others. All limits but Idle end a connection
// with an [ErrLimit]. If several limits apply, the first one reached wins. [OutcomeOf]
// maps an error to one of a few outcomes, which can be counted.
//
// # Zero-copy
//
// All payload goes through [Copy], which lets the kernel move it where it can. From a
// connection to a file it uses splice(2), to io.Discard recv(2) with MSG_TRUNC, and from a
// file to a connection sendfile(2). No byte enters the program then, and a chain costs as
// much as a loop of those calls. Both ends must be one of these: a *net.TCPConn, a
// *net.UnixConn, an *os.File or a [Filer]. Any other Reader or Writer in between is called
// and sees every byte.
//
// So a stage keeps zero-copy if it inserts only a [Gate]: by [NewReader] in front of c.In,
// or by [NewWriter] in front of c.Out. A stage also keeps it if, like [Handshake], it only
// holds a dialogue by c.In and c.Reply and takes no byte after it.
//
// A stage that must see the payload, such as a hash or a decompressor, inserts a reader or
// writer of its own and says so in its comment. That ends zero-copy for chains with this
// stage, and for no others. The payload then passes through a pooled buffer.
//
// On Linux, a connection that waits for its client holds no buffer if only gates are between
// Copy and a TCP or Unix stream connection. With any other Reader, such as TLS, and on other
// systems, Copy waits in Read with a buffer. It has 4 KiB at first and after a shorter Read,
// otherwise 64 KiB.
//
// Less than 4 KiB at a time is copied as well, since that costs less than to splice it. The
// counters rchar and wchar in /proc/PID/io show the bytes that passed through a process:
// splice adds nothing to them.
//
// # Dependencies
//
// The package imports the standard library only. Where connections come from (package
// transport, say) and where payloads go (package fs, say) are small interfaces here.
package stage
