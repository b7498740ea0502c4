package fs

import (
	"os"
	"testing"

	"github.com/spf13/afero"

	"github.com/accio-go/accio/fs/fstest"
)

func TestStoreRules(t *testing.T) {
	for _, k := range kinds {
		for what, opts := range map[string][]Option{"": nil, ", NoReplace": {NoReplace()}} {
			t.Run(k.name+what, func(t *testing.T) {
				fstest.TestStore(t, func(tb testing.TB) fstest.Place {
					p := k.place(tb.(*testing.T), opts...)
					return fstest.Place{
						Store: p.Store,
						Read: func(name string) ([]byte, error) {
							if checkName(name) != nil {
								return nil, os.ErrNotExist
							}
							return afero.ReadFile(p.afs, p.join(name))
						},
						Names:     func() ([]string, error) { return p.names(tb), nil },
						NoReplace: opts != nil,
					}
				})
			})
		}
	}
}
