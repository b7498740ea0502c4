package fstest_test

import (
	"testing"

	"github.com/spf13/afero"

	"github.com/accio-go/accio/fs"
	"github.com/accio-go/accio/fs/fstest"
)

// A test of a store in memory.
func ExampleTestStore() {
	_ = func(t *testing.T) { // TestMyStore
		fstest.TestStore(t, func(t testing.TB) fstest.Place {
			mem := fs.NewMemory()
			store, err := fs.New(mem, "/save")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { store.Close() })
			return fstest.Place{
				Store: store,
				Read:  func(name string) ([]byte, error) { return afero.ReadFile(mem, "/save/"+name) },
			}
		})
	}
}
