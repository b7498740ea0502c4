package cli

import (
	"slices"
	"testing"
)

func TestCheckUnknownVariables(t *testing.T) {
	got := newFlagSet(new(grammar), program).unknownVariables([]string{
		"ACCIO_MAXSIZE=1", "ACCIO_CONN=1", "ACCIO_QUITE=1", "ACCIO_CHECK=1", "ACCIO_SERVICE_HOST=10.0.0.1", "ACCIO_=1", "ACCIO_NO_VALUE",
		"ACCIO_MAX_SIZE=1", "ACCIO_CONFIG=x", "ACCIO_PORT=tcp://10.0.0.1:80", "ACCIO_FILE_DIR=x", "ACCIO_DRIAN=", "XACCIO_DRIAN=1", "PATH=/bin", "=C:=x",
	})
	want := []string{
		"ACCIO_ sets no flag of pro-gram",
		"ACCIO_CHECK sets no flag of pro-gram",
		"ACCIO_CONN sets no flag of pro-gram (did you mean \"ACCIO_CONNS\"?)",
		"ACCIO_MAXSIZE sets no flag of pro-gram (did you mean \"ACCIO_MAX_SIZE\"?)",
		"ACCIO_QUITE sets no flag of pro-gram (did you mean \"ACCIO_QUIET\"?)",
		"ACCIO_SERVICE_HOST sets no flag of pro-gram",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
