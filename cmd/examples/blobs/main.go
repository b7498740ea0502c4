// Command blobs keeps whatever it is sent under its SHA-256, once, however often it
// is sent. The sender ends its stream, and is told the size and the digest when the
// blob is safe on the disk; who is told nothing has to send again. SIGINT or SIGTERM
// stops it, when those who are sending have finished, or after ten seconds.
//
//	go run ./cmd/examples/blobs -dir blobs
//
//	nc -N localhost 7000 < README.md
//	socat -t 10 - TCP:localhost:7000 < README.md
//	sha256sum blobs/*
package main

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/accio-go/accio/fs"
	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/transport"
)

func main() {
	addr := flag.String("addr", "localhost:7000", "listen on this `address`")
	dir := flag.String("dir", "blobs", "the `directory` for the blobs")
	limit := flag.Int64("max", 1<<30, "how many `bytes` a blob may have; 0 means no limit")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	ln, err := transport.ListenOn(ctx, "tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	if err := receive(ctx, ln, *dir, *limit); err != nil {
		log.Fatal(err)
	}
}

// receive serves ln until ctx is cancelled.
func receive(ctx context.Context, ln net.Listener, dir string, limit int64) error {
	store, err := fs.OpenDir(dir, fs.NoReplace())
	if err != nil {
		return err
	}
	defer store.Close()
	const arriving = "blob" // its name until it has one
	if err := store.Sweep(func(name string) bool { return name == arriving }); err != nil {
		return err
	}
	chain := stage.Chain{
		stage.Log{},
		stage.Receipt{Format: func(c *stage.Conn) string {
			return fmt.Sprintf("%d %x\n", c.Counter.Count(), c.Hash.Sum(nil))
		}},
		stage.Hash{New: sha256.New},
		stage.Save{Store: store, Name: func(*stage.Conn) string { return arriving }, Final: stage.HashName(""), Dedupe: true},
		stage.MaxSize{Bytes: limit},
		stage.Idle{Limit: 10 * time.Second},
	}.Then(stage.Receive)
	srv := transport.Server{
		Handler:   stage.ServeFunc(chain),
		Scheduler: transport.NewPool(transport.MaxConns(2)), // of two descriptors each
		Drain:     10 * time.Second,
		Grace:     time.Second,
		OnError:   func(err error) { log.Print(err) },
	}
	return srv.Serve(ctx, ln)
}
