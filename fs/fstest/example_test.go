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

// The disk is full, and then has space again.
func ExampleFaulty() {
	faulty := fstest.NewFaulty(fs.NewMemory())
	store, err := fs.New(faulty.Fs(), "/save")
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

	faulty.Fail(syscall.ENOSPC, 1, "short write")
	fmt.Println(errors.Is(upload(), syscall.ENOSPC), faulty.Handles())
	faulty.Mend()
	fmt.Println(upload(), faulty.Handles())
	// Output:
	// true 0
	// <nil> 0
}

// Without a sync, a rename may leave an empty file.
func ExampleCrashing() {
	var disk fstest.Crashing
	afs := disk.Fs()
	afero.WriteFile(afs, "/settings", []byte("old"), 0o666)
	disk.SyncAll()

	afero.WriteFile(afs, "/settings.new", []byte("new"), 0o666)
	afs.Rename("/settings.new", "/settings")

	found := make(map[string]bool)
	for _, left := range disk.Crashes(100, 1) {
		got, _ := afero.ReadFile(left, "/settings")
		found[string(got)] = true
	}
	fmt.Println(found["old"], found["new"], found[""])
	// Output: true true true
}
