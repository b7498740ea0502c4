package serve

import (
	"errors"
	"strings"
	"testing"
)

// A reload is reported in one record, or without a log in one line.
func TestReload(t *testing.T) {
	works := func() ([]any, error) { return []any{"log_level", "debug"}, nil }
	fails := func() ([]any, error) { return nil, errors.New("a mistake") }
	both := func() ([]any, error) { return []any{"log_level", "debug"}, errors.New("a mistake") }
	for _, tt := range []struct {
		name      string
		functions []reload
		record    string
		line      string
	}{
		{"nothing", nil, `level=INFO msg="nothing to reload"`, ""},
		{"all", []reload{works}, `level=INFO msg=reloaded log_level=debug`, ""},
		{"none", []reload{fails}, `level=ERROR msg="not reloaded" cause="a mistake"`, "ERROR: not reloaded: a mistake"},
		{"neither", []reload{fails, fails}, `level=ERROR msg="not reloaded" cause="a mistake\na mistake"`, "ERROR: not reloaded: a mistake; a mistake"},
		{"the second", []reload{fails, works}, `level=ERROR msg="reloaded in part" log_level=debug cause="a mistake"`, "ERROR: reloaded in part: a mistake"},
		{"half", []reload{both}, `level=ERROR msg="reloaded in part" log_level=debug cause="a mistake"`, "ERROR: reloaded in part: a mistake"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			logs, b, _ := begin(t, "info", "text")
			(&reloader{logs: logs, reloads: tt.functions}).reload()
			_, record, _ := strings.Cut(b.String(), " ") // the time
			if record != tt.record+"\n" {
				t.Errorf("the log has %q, want %q", record, tt.record)
			}
			logs, b, _ = begin(t, "", "")
			(&reloader{logs: logs, reloads: tt.functions}).reload()
			if line := strings.TrimSuffix(b.String(), "\n"); line != tt.line {
				t.Errorf("the line is %q, want %q", line, tt.line)
			}
		})
	}
}
