package cli

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// One record, or without a log one line, says what has come of a reload.
func TestAReloadIsTold(t *testing.T) {
	works := func() ([]any, error) { return []any{"log_level", "debug"}, nil }
	fails := func() ([]any, error) { return nil, errors.New("a mistake") }
	both := func() ([]any, error) { return []any{"log_level", "debug"}, errors.New("a mistake") }
	for _, tt := range []struct {
		name      string
		functions []func() ([]any, error)
		record    string
		line      string
	}{
		{"nothing", nil, `level=INFO msg="nothing to reload"`, ""},
		{"all", []func() ([]any, error){works}, `level=INFO msg=reloaded log_level=debug`, ""},
		{"none", []func() ([]any, error){fails}, `level=ERROR msg="not reloaded" cause="a mistake"`, "ERROR: not reloaded: a mistake"},
		{"neither", []func() ([]any, error){fails, fails}, `level=ERROR msg="not reloaded" cause="a mistake\na mistake"`, "ERROR: not reloaded: a mistake; a mistake"},
		{"the second", []func() ([]any, error){fails, works}, `level=ERROR msg="reloaded in part" log_level=debug cause="a mistake"`, "ERROR: reloaded in part: a mistake"},
		{"half", []func() ([]any, error){both}, `level=ERROR msg="reloaded in part" log_level=debug cause="a mistake"`, "ERROR: reloaded in part: a mistake"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := Reloader{reloads: tt.functions}
			_, b, stop := begin(t, "info", "text")
			r.reload()
			stop()
			_, record, _ := strings.Cut(b.String(), " ") // the time
			if record != tt.record+"\n" {
				t.Errorf("the log has %q, want %q", record, tt.record)
			}
			logger.Store(nil)
			_, b, stop = begin(t, "", "")
			r.reload()
			stop()
			if line := strings.TrimSuffix(b.String(), "\n"); line != tt.line {
				t.Errorf("it says %q, want %q", line, tt.line)
			}
		})
	}
}

func TestWhatHasChanged(t *testing.T) {
	set := func(args ...string) *grammar {
		t.Helper()
		g, err := read(t, "-", nil, args...)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{[]string{"1", "dir", "--word=info", "--names=a"}, nil},
		{[]string{"1", "dir", "--check", "--word=info", "--names=a"}, nil}, // it cannot be in a file
		{[]string{"1", "dir", "--word=warn", "--names=b"}, []string{"word", "names"}},
		{[]string{"2", "other", "--max-size=1"}, []string{"port", "file-dir", "word", "names", "max-size"}},
	} {
		got, err := differ(set("1", "dir", "--word=info", "--names=a"), set(tt.args...), program)
		slices.Sort(got)
		slices.Sort(tt.want)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, %v; want %q", tt.args, got, err, tt.want)
		}
	}
}
