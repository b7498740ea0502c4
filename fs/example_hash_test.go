package fs_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"

	"github.com/spf13/afero"

	"github.com/accio-go/accio/fs"
	"github.com/accio-go/accio/stage"
)

// A directory that is addressed by content: a file is called after its digest, and the
// same content is kept once, however often it is sent.
func ExampleNoReplace_dedupe() {
	mem := fs.NewMemory()
	store, err := fs.New(mem, "/objects", fs.NoReplace())
	if err != nil {
		panic(err)
	}
	defer store.Close()
	h := stage.Chain{
		stage.Hash{New: sha256.New},
		stage.Save{
			Store:  store,
			Name:   stage.NumberedFile, // that of the pending file, which Sweep goes by
			Final:  stage.HashName(""),
			Dedupe: true,
		},
	}.Then(stage.Receive)
	for i, content := range []string{"first", "second", "first"} {
		client, server := net.Pipe()
		go func() {
			io.WriteString(client, content)
			client.Close()
		}()
		fmt.Println(stage.Serve(context.Background(), server, uint64(i+1), h))
	}
	objects, _ := afero.ReadDir(mem, "/objects")
	for _, o := range objects {
		fmt.Printf("%.8s… %d bytes\n", o.Name(), o.Size())
	}
	// Output:
	// <nil>
	// <nil>
	// <nil>
	// 16367aac… 6 bytes
	// a7937b64… 5 bytes
}
