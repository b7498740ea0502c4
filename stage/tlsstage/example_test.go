package tlsstage_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/stage/tlsstage"
)

// pair is a certificate for localhost and its key, for the examples only.
func pair() (cert tls.Certificate, roots *x509.CertPool) {
	cert, err := tls.X509KeyPair([]byte(certPEM), []byte(keyPEM))
	if err != nil {
		panic(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	return cert, roots
}

// connect returns the two ends of a connection.
func connect() (server, client net.Conn) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer ln.Close()
	client, cerr := net.Dial("tcp", ln.Addr().String())
	server, serr := ln.Accept()
	if err := errors.Join(cerr, serr); err != nil {
		panic(err)
	}
	return server, client
}

// send is a client that sends s by TLS, ends its stream, and waits for the server.
func send(nc net.Conn, roots *x509.CertPool, s string) error {
	c := tls.Client(nc, &tls.Config{ServerName: "localhost", RootCAs: roots})
	defer c.Close()
	if _, err := io.WriteString(c, s); err != nil {
		return err
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, c)
	return err
}

// Receive by TLS what a client sends.
func ExampleTLS() {
	cert, roots := pair()
	server, client := connect()
	done := make(chan error, 1)
	go func() { done <- send(client, roots, "hello, world") }()

	h := stage.Chain{
		stage.Report{W: os.Stdout},
		stage.Idle{Limit: 10 * time.Second}, // of what is on the wire
		tlsstage.TLS{
			Config: &tls.Config{Certificates: []tls.Certificate{cert}},
			Limit:  5 * time.Second,
		},
		stage.MaxSize{Bytes: 1 << 20}, // of the payload
	}.Then(stage.Receive)
	fmt.Println(stage.Serve(context.Background(), server, 1, h), <-done)
	// Output:
	// 12
	// <nil> <nil>
}

// A stage inside of TLS knows what was agreed on.
func ExampleState() {
	cert, roots := pair()
	server, client := connect()
	done := make(chan error, 1)
	go func() { done <- send(client, roots, "") }()

	tell := stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
		if state, ok := tlsstage.State(c); ok {
			fmt.Println(tls.VersionName(state.Version), "for", state.ServerName)
		}
		return nil, nil
	})
	config := &tls.Config{Certificates: []tls.Certificate{cert}}
	h := stage.Chain{tlsstage.TLS{Config: config}, tell}.Then(stage.Receive)
	fmt.Println(stage.Serve(context.Background(), server, 1, h), <-done)
	// Output:
	// TLS 1.3 for localhost
	// <nil> <nil>
}

// Serve by certificates that may be replaced at any time.
func ExampleReloader() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	files := tlsstage.Files{Cert: dir + "/cert.pem", Key: dir + "/key.pem"}
	os.WriteFile(files.Cert, []byte(certPEM), 0o600)
	os.WriteFile(files.Key, []byte(keyPEM), 0o600)

	certs, err := tlsstage.NewReloader(files, func(err error) {
		fmt.Fprintln(os.Stderr, "still serving by the certificate of before:", err)
	})
	if err != nil {
		panic(err)
	}
	h := stage.Chain{
		stage.Report{W: os.Stdout},
		tlsstage.TLS{Config: certs.Config(nil), Limit: 5 * time.Second},
	}.Then(stage.Receive)

	_, roots := pair()
	server, client := connect()
	done := make(chan error, 1)
	go func() { done <- send(client, roots, "hello, world") }()
	fmt.Println(stage.Serve(context.Background(), server, 1, h), <-done)
	// Output:
	// 12
	// <nil> <nil>
}

const certPEM = `-----BEGIN CERTIFICATE-----
MIIBhTCCASygAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDEwlsb2NhbGhv
c3QwIBcNMDAwMTAxMDAwMDAwWhgPMjIwMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMT
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNlp03BXAX6F37ez
HGEOMIa39h90ENNikVINDrT2SIuiwebVhXCOvtQywpWNqp6U9KDDhDRVLWQHaiyV
BCu+quqjbTBrMA4GA1UdDwEB/wQEAwIChDATBgNVHSUEDDAKBggrBgEFBQcDATAP
BgNVHRMBAf8EBTADAQH/MB0GA1UdDgQWBBTvlj1mA8OW7fi2eKjhCYfKz2LISzAU
BgNVHREEDTALgglsb2NhbGhvc3QwCgYIKoZIzj0EAwIDRwAwRAIgTJpSybv91ApR
kzuBQu0sAMQgp1s00K+onnRQhj5dy6cCICZ/Q6BZ7B15IyZN5SBR1KLkxBTyLJ4L
OUxDoGNtuRnQ
-----END CERTIFICATE-----
`

const keyPEM = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgbrB8Id6vZVUVwx5j
TN1vpM4+Xh9H9VMJQ15dVVLK8tehRANCAATZadNwVwF+hd+3sxxhDjCGt/YfdBDT
YpFSDQ609kiLosHm1YVwjr7UMsKVjaqelPSgw4Q0VS1kB2oslQQrvqrq
-----END PRIVATE KEY-----
`
