package fs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/afero"
)

func TestMakeDirMakesWhatIsMissing(t *testing.T) {
	for _, path := range []string{"a", "a/b", "a/b/c/d", "a/", "./a", "a/../b", "a//b", "."} {
		t.Run(path, func(t *testing.T) {
			t.Chdir(t.TempDir())
			path := filepath.FromSlash(path)
			for range 2 { // and what is there is good as it is
				if err := makeDir(afero.NewOsFs(), path, new(options)); err != nil {
					t.Fatal(err)
				}
				if fi, err := os.Stat(path); err != nil || !fi.IsDir() {
					t.Errorf("it is %v, %v", fi, err)
				}
			}
		})
	}
	t.Run("the root", func(t *testing.T) {
		if err := makeDir(afero.NewOsFs(), string(filepath.Separator), new(options)); err != nil {
			t.Error(err)
		}
	})
}

func TestMakeDirDoesNotMakeADirectoryOfAFile(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("file", []byte("kept"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"file", "file/a", "file/a/b"} {
		err := makeDir(afero.NewOsFs(), filepath.FromSlash(path), new(options))
		if pathErr := new(fs.PathError); !errors.As(err, &pathErr) {
			t.Errorf("makeDir(afero.NewOsFs(), %q) = %v", path, err)
		}
	}
	if got, err := os.ReadFile("file"); err != nil || string(got) != "kept" {
		t.Errorf("the file holds %q, %v", got, err)
	}
}
