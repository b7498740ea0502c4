//go:build linux

package conformance

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A program that never listens fails in time, and nothing of it stays, also not a
// child that has made itself a group of its own.
func TestAProgramThatDoesNothing(t *testing.T) {
	t.Parallel()
	left := filepath.Join(t.TempDir(), "pids")
	failed, report := grade(t, Suite{
		Commands: map[Program]string{ServerS: "sh -c 'sleep 1000 & a=$!; setsid sleep 1000 & echo $a $! > " + left + "; wait' sh"},
		Only:     []string{"receives"},
	})
	if !slices.Equal(failed, []string{"receives"}) || report.Conforms() {
		t.Errorf("%v fails", failed)
	}
	b, err := os.ReadFile(left)
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range strings.Fields(string(b)) {
		var stat []byte
		if !(&trial{ctx: t.Context()}).await(settling, func() bool {
			stat, err = os.ReadFile("/proc/" + pid + "/stat")
			return err != nil || bytes.Contains(stat, []byte(") Z "))
		}) {
			t.Errorf("a child is left: %s", stat)
		}
	}
}

// What is waited for as long as somebody has patience is not waited for any
// longer than a criterion may take, and nobody is blamed for that.
func TestACriterionTakesNoLongerThanItMay(t *testing.T) {
	t.Parallel()
	const limit = time.Second
	report, err := Suite{
		Commands: map[Program]string{Client: "sh -c 'sleep 1000'"}, // which never connects
		Only:     []string{"connects"}, Timeout: limit, machine: newMachine(1),
	}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r := report.Results[0]; r.Verdict != Error || !strings.Contains(r.Error, "--timeout") {
		t.Errorf("%+v", r)
	}
	if took := report.Results[0].Took; took > limit+patience/2 {
		t.Errorf("it took %v", took)
	}
}

// A client that ends at once is not waited for, and it is its own word that is shown.
func TestTheFailureShowsWhoseItIs(t *testing.T) {
	t.Parallel()
	_, report := grade(t, Suite{
		Commands: map[Program]string{
			Client:  "sh -c 'echo no idea >&2; exit 3' sh",
			ServerS: `sh -c 'case "$1" in abc) echo this one >&2; exit 0; esac; echo another >&2; exit 1' sh`,
		},
		Only: []string{"client/connects", "server-s/incorrect-port"},
		// One that has no slack, and no others to wait for: the client's time is looked at.
		machine: newMachine(1),
	})
	for i, want := range []string{"this one\n", "no idea\n"} {
		r := report.Results[i]
		if r.Failure == nil || len(r.Failure.Stderr) != 1 || r.Failure.Stderr[0].Text != want {
			t.Errorf("%s: %+v", r.Name, r.Failure)
		}
	}
	if client := report.Results[1]; client.Took > patience/2 || client.Failure != nil && !strings.Contains(client.Failure.Seen, "exit code 3") {
		t.Errorf("it took %v: %+v", client.Took, client.Failure)
	}
}

func TestAProxyDoesNotOutliveItsTrial(t *testing.T) {
	t.Parallel()
	tr := &trial{ctx: t.Context()}
	target := fmt.Sprintf("127.0.0.1:%d", tr.fullQueue()) // which never answers
	tr.dial(nil, tr.proxy(target, shape{})).hearsNothing(moment, "since there is nobody")
	if tr.failure != nil {
		t.Fatal(tr.failure.text())
	}
	begun := time.Now()
	tr.cleanUp()
	if took := time.Since(begun); took > patience/2 {
		t.Errorf("it took %v", took)
	}
}
