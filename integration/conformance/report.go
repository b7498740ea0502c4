package conformance

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"
)

// Verdict is what became of a criterion.
type Verdict string

// The verdicts. A criterion is skipped where this machine cannot try it; an error
// is that it was tried, and what the kit had to do for that did not work, such as
// to write a file on a disk that is full.
const (
	Pass  Verdict = "pass"
	Fail  Verdict = "fail"
	Skip  Verdict = "skip"
	Error Verdict = "error"
)

// Result is the verdict on one criterion.
type Result struct {
	Criterion
	Verdict Verdict       `json:"verdict"`
	Took    time.Duration `json:"tookNanoseconds"`
	Failure *Failure      `json:"failure,omitempty"`
	Skipped string        `json:"skipped,omitempty"` // why
	Error   string        `json:"error,omitempty"`   // what could not be done
	Note    string        `json:"note,omitempty"`    // how it was tried, where that is not what was meant
}

// Report is what became of all that was asked.
type Report struct {
	Commands map[Program]string `json:"commands"`
	Took     time.Duration      `json:"tookNanoseconds"`
	Required Tally              `json:"required"`
	Robust   Tally              `json:"robust"`
	Results  []Result           `json:"results"`
}

// Tally counts criteria and their weights. Those that were skipped, or could not
// be judged, are in neither of the weights.
type Tally struct {
	Passed  int `json:"passed"`
	Failed  int `json:"failed"`
	Skipped int `json:"skipped"`
	Errors  int `json:"errors"`
	Points  int `json:"points"` // the weights of those that passed
	OutOf   int `json:"outOf"`  // and of those that passed or failed
}

func (t *Tally) add(r Result) {
	switch r.Verdict {
	case Skip:
		t.Skipped++
		return
	case Error:
		t.Errors++
		return
	case Pass:
		t.Passed++
		t.Points += r.Weight
	case Fail:
		t.Failed++
	}
	t.OutOf += r.Weight
}

func (t Tally) String() string {
	s := fmt.Sprintf("%d of %d hold, %d of %d points", t.Passed, t.Passed+t.Failed, t.Points, t.OutOf)
	if t.Skipped > 0 {
		s += fmt.Sprintf(", %d could not be tried", t.Skipped)
	}
	if t.Errors > 0 {
		s += fmt.Sprintf(", %d could not be judged", t.Errors)
	}
	return s
}

func newReport(commands map[Program]string, results []Result, took time.Duration) Report {
	r := Report{Commands: commands, Took: took, Results: results}
	for _, res := range results {
		if res.Required {
			r.Required.add(res)
		} else {
			r.Robust.add(res)
		}
	}
	return r
}

// Conforms says that all required criteria hold that were asked: that none has
// failed, none was skipped, and no criterion has ended in an error.
func (r Report) Conforms() bool {
	return r.Required.Failed == 0 && r.Required.Skipped == 0 && r.Unjudged() == 0
}

// Unjudged is how many criteria have ended in an error.
func (r Report) Unjudged() int { return r.Required.Errors + r.Robust.Errors }

// colours of verdicts on a terminal (ECMA-48).
var colours = map[Verdict]string{Pass: "\x1b[32m", Fail: "\x1b[31m", Skip: "\x1b[33m", Error: "\x1b[35m"}

// WriteText writes the report for people, with colours if it goes to a terminal.
func (r Report) WriteText(w io.Writer, colour bool) error {
	var b strings.Builder
	program, group := Program(""), ""
	for _, res := range r.Results {
		if res.Program != program {
			program, group = res.Program, ""
			if b.Len() > 0 {
				b.WriteString("\n")
			}
			fmt.Fprintf(&b, "%s: %s\n", program, r.Commands[program])
		}
		if res.Group != group {
			group = res.Group
			fmt.Fprintf(&b, "\n  %s\n", group)
		}
		verdict := fmt.Sprintf("%-4s", res.Verdict)
		switch res.Verdict {
		case Fail:
			verdict = "FAIL"
		case Error:
			verdict = "ERR "
		}
		if colour {
			verdict = colours[res.Verdict] + verdict + "\x1b[0m"
		}
		name := strings.TrimPrefix(res.Name, string(program)+"/")
		fmt.Fprintf(&b, "    %s %-34s %-8s %2d  %s\n", verdict, name, kind(res.Required), res.Weight, res.Sentence)
		if res.Verdict == Skip {
			fmt.Fprintf(&b, "           skipped: %s\n", res.Skipped)
		}
		if res.Verdict == Error {
			fmt.Fprintf(&b, "           not judged, since the kit could not go on: %s\n", res.Error)
		}
		if res.Note != "" {
			fmt.Fprintf(&b, "           note: %s\n", res.Note)
		}
		if f := res.Failure; f != nil {
			for line := range strings.Lines(f.text()) {
				b.WriteString("           " + line)
			}
		}
	}
	fmt.Fprintf(&b, "\nrequired: %v\nrobust:   %v\ntook %.1f s\n", r.Required, r.Robust, r.Took.Seconds())
	if n := r.Required.Skipped; n > 0 {
		fmt.Fprintf(&b, "%d required could not be tried here, so that it cannot be said whether this conforms\n", n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// text is the failure for people.
func (f *Failure) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "expected: %s\nseen:     %s\n", f.Expected, f.Seen)
	for i, e := range f.Wire {
		fmt.Fprintf(&b, "%-8s %s\n", map[bool]string{true: "wire:"}[i == 0], e)
	}
	if f.Omitted > 0 {
		fmt.Fprintf(&b, "         and %d more events\n", f.Omitted)
	}
	for _, said := range f.Stderr {
		fmt.Fprintf(&b, "stderr:   %s", quoted(said.Text))
		if len(f.Stderr) > 1 {
			fmt.Fprintf(&b, ", of the program that was started with %q", said.Args)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// WriteJSON writes the report as JSON, with the names of the fields as above.
func (r Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// WriteJUnit writes the report as JUnit XML, with a test suite for each program. It
// is as red as [Report.Conforms] says: of criteria that are not required, those that
// fail are skipped tests, with the failure as their output, and of those that are,
// those that were skipped are errors.
func (r Report) WriteJUnit(w io.Writer) error {
	type message struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
	type testCase struct {
		Name      string   `xml:"name,attr"`
		ClassName string   `xml:"classname,attr"`
		Time      string   `xml:"time,attr"`
		Failure   *message `xml:"failure"`
		Error     *message `xml:"error"`
		Skipped   *message `xml:"skipped"`
		Output    string   `xml:"system-out,omitempty"`
	}
	type testSuite struct {
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Errors   int        `xml:"errors,attr"`
		Skipped  int        `xml:"skipped,attr"`
		Cases    []testCase `xml:"testcase"`
	}
	var doc struct {
		XMLName struct{}    `xml:"testsuites"`
		Suites  []testSuite `xml:"testsuite"`
	}
	for _, res := range r.Results {
		last := len(doc.Suites) - 1
		if last < 0 || doc.Suites[last].Name != string(res.Program) {
			doc.Suites = append(doc.Suites, testSuite{Name: string(res.Program)})
			last++
		}
		suite := &doc.Suites[last]
		c := testCase{
			Name:      res.Name,
			ClassName: fmt.Sprintf("%s.%s.%s", res.Program, kind(res.Required), res.Group),
			Time:      fmt.Sprintf("%.3f", res.Took.Seconds()),
		}
		suite.Tests++
		switch {
		case res.Verdict == Fail && res.Required:
			suite.Failures++
			c.Failure = &message{res.Sentence, res.Failure.text()}
		case res.Verdict == Fail:
			suite.Skipped++
			c.Skipped, c.Output = &message{Message: "does not hold, and is not required: " + res.Sentence}, res.Failure.text()
		case res.Verdict == Skip && res.Required:
			suite.Errors++
			c.Error = &message{Message: "is required, and could not be tried: " + res.Skipped}
		case res.Verdict == Skip:
			suite.Skipped++
			c.Skipped = &message{Message: res.Skipped}
		case res.Verdict == Error:
			suite.Errors++
			c.Error = &message{Message: res.Error}
		}
		suite.Cases = append(suite.Cases, c)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(doc); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}
