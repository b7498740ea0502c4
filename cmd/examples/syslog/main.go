// Command syslog collects the messages of many senders, by syslog over TLS (RFC 5425),
// into one file an hour: each is a line, and none is torn by another. They are framed by
// their length or by a newline (RFC 6587). SIGINT or SIGTERM stops it.
//
//	openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem \
//	    -subj /CN=localhost -addext subjectAltName=DNS:localhost
//	go run ./cmd/examples/syslog -cert cert.pem -key key.pem -dir logs
//
//	echo '<14>1 - - - - - - hello' |
//	    openssl s_client -quiet -no_ign_eof -connect localhost:6514 -CAfile cert.pem
//	socat TCP-LISTEN:5140,fork OPENSSL:localhost:6514,cafile=cert.pem &
//	logger --tcp --octet-count --server localhost --port 5140 hello
//	tail -f logs/*.log
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/accio-go/accio/fs"
	"github.com/accio-go/accio/fs/appendlog"
	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/stage/frames"
	"github.com/accio-go/accio/stage/tlsstage"
	"github.com/accio-go/accio/transport"
)

func main() {
	addr := flag.String("addr", "localhost:6514", "listen on this `address`")
	cert := flag.String("cert", "cert.pem", "the `file` with the certificate; it may be replaced at any time")
	key := flag.String("key", "key.pem", "the `file` with its key")
	dir := flag.String("dir", "logs", "the `directory` for the files")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	certs, err := tlsstage.NewReloader(tlsstage.Files{Cert: *cert, Key: *key}, func(err error) { log.Print(err) })
	if err != nil {
		log.Fatal(err)
	}
	ln, err := transport.ListenOn(ctx, "tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	if err := collect(ctx, ln, certs, *dir, time.Now); err != nil {
		log.Fatal(err)
	}
}

// collect serves ln until ctx is cancelled.
func collect(ctx context.Context, ln net.Listener, certs *tlsstage.Reloader, dir string, now func() time.Time) error {
	store, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	defer store.Close()
	lines := &appendlog.Log{Store: store, SyncEvery: time.Second}
	hour := func(*stage.Conn) (string, error) { return now().UTC().Format("2006-01-02T15") + ".log", nil }
	chain := stage.Chain{
		stage.Log{},
		stage.Idle{Limit: time.Hour},
		tlsstage.TLS{Config: certs.Config(nil), Limit: 10 * time.Second},
		frames.Frames{Split: frames.Syslog, Max: 64 << 10},
		stage.Save{Store: lines, Name: func(*stage.Conn) string { return "message" }, Final: hour},
	}.Then(stage.Receive)
	srv := transport.Server{
		Handler:   stage.ServeFunc(chain),
		Scheduler: transport.NewPool(transport.MaxConns(1)), // of one descriptor each
		Grace:     time.Second,
		OnError:   func(err error) { log.Print(err) },
	}
	return errors.Join(srv.Serve(ctx, ln), lines.Close())
}
