package fstest_test

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/spf13/afero"

	"github.com/accio-go/accio/fs"
	"github.com/accio-go/accio/fs/fstest"
)

// A disk that is full for a while.
func ExampleFaulty() {
	afs := fstest.NewFaulty(fs.NewMemory())
	store, err := fs.New(afs, "/save")
	if err != nil {
		panic(err)
	}
	defer store.Close()
	upload := func() error {
		p, err := store.Create(context.Background(), "1.file")
		if err != nil {
			return err
		}
		if _, err := p.Write([]byte("payload")); err != nil {
			return errors.Join(err, p.Abort())
		}
		return p.Commit()
	}

	afs.Fail(syscall.ENOSPC, 1, fstest.ShortWrite)
	fmt.Println(errors.Is(upload(), syscall.ENOSPC), afs.Handles())
	afs.Mend()
	fmt.Println(upload(), afs.Handles())
	// Output:
	// true 0
	// <nil> 0
}

// To write a file and rename it is not enough.
func ExampleCrashing() {
	afs := fstest.NewCrashing()
	afero.WriteFile(afs, "/settings", []byte("old"), 0o666)
	afs.SyncAll()

	afero.WriteFile(afs, "/settings.new", []byte("new"), 0o666)
	afs.Rename("/settings.new", "/settings")

	found := make(map[string]bool)
	for crash := range afs.Crashes(100, 1) {
		got, _ := afero.ReadFile(crash.Fs, "/settings")
		found[string(got)] = true
	}
	fmt.Println(found["old"], found["new"], found[""])
	// Output: true true true
}
