//go:build linux

package conformance

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

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
