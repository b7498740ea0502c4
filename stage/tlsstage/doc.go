// Package tlsstage is TLS as a stage, for the server's side.
//
// The stages inside [TLS] read and write the payload. The stages outside count and limit the
// encrypted bytes. TLS needs no listener of its own, so package stage serves the plain
// connection of the system:
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
// Only a close_notify ends the stream of a client. A connection that was cut ends with an
// error, so no stage outside takes a part of a payload for the whole.
//
// The payload is decrypted in user space (without kTLS), which ends zero-copy.
//
// A [Reloader] reads replaced certificates without a restart.
//
// The package imports only the standard library and package stage.
package tlsstage
