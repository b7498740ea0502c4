package serve

import (
	"io/fs"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/accio-go/accio/cmd/internal/cli"
)

// tree is all there is in a directory.
func tree(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		names = append(names, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestCheckDir(t *testing.T) {
	base := t.TempDir()
	at := func(name string) string { return filepath.Join(base, name) }
	for _, err := range []error{
		os.Mkdir(at("dir"), 0o777),
		os.WriteFile(at("dir/1.file"), []byte("x"), 0o666),
		os.WriteFile(at("dir/.1.file1234567890123456789"), []byte("left by a server that was killed"), 0o666),
		os.WriteFile(at("file"), nil, 0o666),
		os.Symlink("dir", at("link")),
		os.Symlink("nothing", at("dangling")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	before := tree(t, base)
	for _, tt := range []struct {
		dir     string
		minFree int64
		says    []string // nil: it is fine
	}{
		{at("dir"), 0, nil},
		{at("dir") + "/", 1, nil},
		{at("dir/../dir"), 0, nil},
		{at("link"), 1, nil},
		{at("new"), 0, nil},
		{at("new/and/more"), 1, nil},
		{at("link/new"), 0, nil},
		{at("dir"), math.MaxInt64, []string{"--min-free", "9223372036854775807", at("dir")}},
		{at("new"), math.MaxInt64, []string{"--min-free", at("new")}},
		{at("file"), 0, []string{at("file"), "not a directory"}},
		{at("file/new"), 0, []string{at("file/new"), "not a directory"}},
		{at("dangling"), 0, []string{at("dangling")}},
		{at("dangling/new"), 0, []string{at("dangling/new")}},
		{at(strings.Repeat("x", 300)), 0, []string{"name too long"}},
		{"", 0, []string{`""`}},
		{"a\x00b", 0, []string{`"a\x00b"`}},
	} {
		err := CheckDir(tt.dir, tt.minFree)
		if (err == nil) != (tt.says == nil) {
			t.Errorf("%q, %d: %v", tt.dir, tt.minFree, err)
		}
		for _, s := range tt.says {
			if err != nil && !strings.Contains(err.Error(), s) {
				t.Errorf("%q, %d: the error %q does not say %q", tt.dir, tt.minFree, err, s)
			}
		}
		if after := tree(t, base); !slices.Equal(before, after) {
			t.Fatalf("%q: there was %q, and is %q", tt.dir, before, after)
		}
	}
}

func TestCheckDir_relative(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, dir := range []string{".", "new", "./new/more", "../" + filepath.Base(t.TempDir())} {
		if err := CheckDir(dir, 1); err != nil {
			t.Errorf("%q: %v", dir, err)
		}
	}
	if names := tree(t, "."); len(names) != 1 {
		t.Errorf("it has left %q", names)
	}
}

func TestCheckPort(t *testing.T) {
	ln, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	port := cli.Port(ln.Addr().(*net.TCPAddr).Port)
	// In use, and free.
	if err := checkPort(port); err != nil {
		t.Error(err)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if err := checkPort(port); err != nil {
		t.Error(err)
	}
}
