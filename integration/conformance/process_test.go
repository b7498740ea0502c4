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
		Only:     []string{"receives"}, Timeout: 2 * time.Second,
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
// longer than a criterion may take.
func TestACriterionTakesNoLongerThanItMay(t *testing.T) {
	t.Parallel()
	const limit = time.Second
	failed, report := grade(t, Suite{
		Commands: map[Program]string{Client: "sh -c 'sleep 1000'"}, // which never connects
		Only:     []string{"connects"}, Timeout: limit,
	})
	if !slices.Equal(failed, []string{"connects"}) {
		t.Errorf("%v fails", failed)
	}
	if took := report.Results[0].Took; took > limit+patience/2 {
		t.Errorf("it took %v", took)
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
