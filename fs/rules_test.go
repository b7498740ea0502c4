package fs

import (
	"os"
	"testing"

	"github.com/spf13/afero"

	"github.com/accio-go/accio/fs/fstest"
)

// Every kind of store keeps the rules of those that stage.Save takes, also while its
// files are followed, and if it replaces nothing.
func TestStoresKeepTheRules(t *testing.T) {
	stores := map[string]func(*Store) fstest.Store{
		"":           func(s *Store) fstest.Store { return s },
		", followed": func(s *Store) fstest.Store { return Follow(s) },
	}
	options := map[string][]Option{"": nil, ", replacing nothing": {NoReplace()}}
	for _, k := range kinds {
		for how, store := range stores {
			for what, opts := range options {
				t.Run(k.name+how+what, func(t *testing.T) {
					fstest.TestStore(t, func(tb testing.TB) fstest.Place {
						p := k.place(tb.(*testing.T), opts...)
						return fstest.Place{
							Store: store(p.Store),
							Read: func(name string) ([]byte, error) {
								if checkName(name) != nil {
									return nil, os.ErrNotExist
								}
								return afero.ReadFile(p.afs, p.join(name))
							},
							Names:       func() ([]string, error) { return p.names(tb), nil },
							CommitsOnce: true,
							NoReplace:   opts != nil,
						}
					})
				})
			}
		}
	}
}
