// Package proxyproto takes the address of a client from the proxy in front of the server.
//
// A server behind a proxy sees the address of the proxy on all connections. With the PROXY
// protocol (https://www.haproxy.org/download/3.4/doc/proxy-protocol.txt) the proxy first
// sends the address of its client. The stage [Proxy] reads it for the stages inside:
//
//	h := stage.Chain{
//		stage.Save{Store: store, Name: stage.NumberedFile},
//		stage.Idle{Limit: 10 * time.Second},
//		proxyproto.Proxy{Trusted: []netip.Prefix{proxies}, Limit: time.Second},
//		stage.MaxPerHost{N: 10}, // of a client, not of the proxy
//	}.Then(stage.Receive)
//
// Any client could send such a header and claim any address, so only trusted peers may.
// Zero-copy survives for the bytes after the header.
package proxyproto
