package main

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

func TestLastNumber(t *testing.T) {
	for _, tt := range []struct {
		names []string
		want  uint64
	}{
		{nil, 0},
		{[]string{"1.file"}, 1},
		{[]string{"2.file", "10.file", "9.file"}, 10},
		{[]string{"3.file", "4.FILE", "05.file", "6.file.bak", ".7.file123", "x8.file", "0.file", "-9.file", ".file"}, 3},
		{[]string{"18446744073709551615.file"}, math.MaxUint64},
		{[]string{"18446744073709551616.file", "1.file"}, 1},
	} {
		dir := t.TempDir()
		for _, name := range tt.names {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := lastNumber(dir); got != tt.want || err != nil {
			t.Errorf("of %q: %d, %v; want %d", tt.names, got, err, tt.want)
		}
	}
}

func TestLastNumberOfMany(t *testing.T) {
	dir := t.TempDir()
	for i := range 2500 {
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i+1)+".file"), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := lastNumber(dir); got != 2500 || err != nil {
		t.Errorf("%d, %v", got, err)
	}
	if _, err := lastNumber(filepath.Join(dir, "none")); err == nil {
		t.Error("where nothing is there is a last number")
	}
}
