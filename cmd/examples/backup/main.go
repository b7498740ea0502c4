// Command backup stores backups that are sent compressed by zstd, each with its SHA-256.
// SIGINT or SIGTERM stops it after the last upload or a minute; a second signal at once.
//
//	go run ./cmd/examples/backup -rate 10000000
//	tar c Documents | zstd -c | nc -N localhost 7001
//	(cd backups && sha256sum -c *.sha256)
package main

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/accio-go/accio/fs"
	"github.com/accio-go/accio/fs/follow"
	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/stage/decompress"
	"github.com/accio-go/accio/stage/decompress/zstd"
	"github.com/accio-go/accio/stage/throttle"
	"github.com/accio-go/accio/transport"
)

func main() {
	addr := flag.String("addr", "localhost:7001", "listen on this `address`")
	dir := flag.String("dir", "backups", "the `directory` for the backups")
	rate := flag.Int64("rate", 0, "how many `bytes` each may send in a second; 0 means no limit")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	ln, err := transport.ListenOn(ctx, "tcp", *addr)
	if err == nil {
		err = receive(ctx, ln, *dir, *rate)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// receive serves ln until ctx is cancelled.
func receive(ctx context.Context, ln net.Listener, dir string, rate int64) error {
	store, err := fs.OpenDir(dir, fs.NoReplace())
	if err != nil {
		return err
	}
	defer store.Close()
	if err := store.Sweep(func(name string) bool { return strings.Contains(name, ".backup") }); err != nil {
		return err
	}
	sums := follow.Consumer{Consume: func(_ context.Context, name string, r io.Reader) error {
		h := sha256.New()
		if _, err := io.Copy(h, r); err != nil {
			return err // and there is no such backup
		}
		return store.WriteFile(name+".sha256", fmt.Appendf(nil, "%x  %s\n", h.Sum(nil), name))
	}, OnError: func(name string, err error) { log.Printf("no checksum of %s: %v", name, err) }}
	chain := stage.Chain{
		stage.Log{},
		stage.Receipt{Format: func(c *stage.Conn) string { return fmt.Sprintf("%d bytes are stored\n", c.Counter.Count()) }},
		stage.Save{Store: &follow.Store{Store: store, Consumers: []follow.Consumer{sums}}, Name: stage.TimeName("20060102T150405Z", ".backup")},
		stage.MinFree{Bytes: 64 << 20, Free: store.Free}, // however much it expands to
		stage.Idle{Limit: time.Minute},
		throttle.Throttle{BytesPerSecond: rate},
		decompress.Decompress{Open: zstd.Open},
	}.Then(stage.Receive)
	srv := transport.Server{
		Handler:   stage.ServeFunc(chain),
		Scheduler: transport.NewPool(transport.MaxConns(4)), // of as many descriptors each
		Drain:     time.Minute,
		OnError:   func(err error) { log.Print(err) },
	}
	return srv.Serve(ctx, ln)
}
