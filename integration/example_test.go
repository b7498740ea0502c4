package integration

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/accio-go/accio/fs"
	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/transport"
)

// saveUploads saves what each client sends as 1.file, 2.file, … in dir, whole
// or not at all, up to a hundred at a time, until ctx is cancelled.
func saveUploads(ctx context.Context, ln net.Listener, dir string) error {
	store, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	defer store.Close()
	chain := stage.Chain{
		stage.Log{},
		stage.Save{Store: store, Name: stage.NumberedFile},
		stage.Idle{Limit: 10 * time.Second},
	}.Then(stage.Receive)
	srv := transport.Server{
		Scheduler: transport.NewPool(100),
		Handler:   stage.ServeFunc(chain),
	}
	return srv.Serve(ctx, ln)
}

func Example() {
	dir, err := os.MkdirTemp("", "uploads")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ln, err := net.Listen("tcp", "127.0.0.1:0") // or transport.Listen(ctx, 5000)
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- saveUploads(ctx, ln, dir) }()

	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	io.WriteString(conn, "hello")
	conn.(*net.TCPConn).CloseWrite()
	io.Copy(io.Discard, conn) // the server closes when the file is safe
	conn.Close()

	saved, err := os.ReadFile(filepath.Join(dir, "1.file"))
	fmt.Printf("%s %v\n", saved, err)
	stop()
	fmt.Println(<-served)
	// Output:
	// hello <nil>
	// <nil>
}

func TestTheReadmeShowsTheExample(t *testing.T) {
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(source), "\n// saveUploads")
	body, _, found := strings.Cut("// saveUploads"+rest, "\n}\n")
	if !found {
		t.Fatal("the example is not where it was")
	}
	if shown := "```go\n" + body + "\n}\n```\n"; !strings.Contains(string(readme), shown) {
		t.Errorf("README.md should show\n%s", shown)
	}
}
