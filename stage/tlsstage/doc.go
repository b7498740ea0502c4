// Package tlsstage has a server's chain speak TLS with its clients.
//
// [TLS] is a stage: what is inside of it reads and writes payload, and what is
// outside of it counts, limits and waits for what is on the wire. So there is no
// listener of its own, and the connection that is served stays the system's, with all
// that package stage can do for it:
//
//	certs, err := tlsstage.NewReloader(tlsstage.Files{Cert: "cert.pem", Key: "key.pem"}, logError)
//	…
//	h := stage.Chain{
//		stage.Save{Store: store, Name: stage.NumberedFile},
//		stage.Idle{Limit: 10 * time.Second},
//		tlsstage.TLS{Config: certs.Config(nil), Limit: 5 * time.Second},
//		stage.Handshake{Script: stage.Accio},
//	}.Then(stage.Receive)
//
// The end of a stream is what a client says by its close_notify, and nothing else: a
// connection that is cut, by whomever, ends with an error, so that no stage outside
// takes a part of a payload for the whole.
//
// The payload is decrypted in user space (there is no kTLS), which is the end of
// zero-copy for the chain, and the connection keeps its goroutine while it is silent.
//
// A [Reloader] has certificates that are replaced on disk taken up without a restart.
//
// The package imports the standard library and package stage only.
package tlsstage
