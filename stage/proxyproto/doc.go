// Package proxyproto has a chain learn from a proxy in front of it who its clients are.
//
// A server behind a proxy sees the proxy's address on all connections. By the PROXY
// protocol (https://www.haproxy.org/download/3.4/doc/proxy-protocol.txt) the proxy says
// first whose connection it passes on. [Proxy] is a stage that reads this, and gives the
// stages inside of it the client's address:
//
//	h := stage.Chain{
//		stage.Save{Store: store, Name: stage.NumberedFile},
//		stage.Idle{Limit: 10 * time.Second},
//		proxyproto.Proxy{Trusted: []netip.Prefix{proxies}, Limit: time.Second},
//		stage.MaxPerHost{N: 10}, // of a client, not of the proxy
//	}.Then(stage.Receive)
//
// Whoever could send such a header unasked could be anybody, so who is trusted to send
// one has to be said.
//
// Headers are parsed by github.com/pires/go-proxyproto, which sees nothing but whole
// ones: what is taken from the connection ends where the header does, and zero-copy
// survives for what follows.
package proxyproto
