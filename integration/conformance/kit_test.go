//go:build linux

package conformance

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestCriteriaAreNamedOnceAndWeighSomething(t *testing.T) {
	seen := make(map[string]bool)
	for _, c := range Criteria() {
		program, name, ok := strings.Cut(c.Name, "/")
		if !ok || program != string(c.Program) || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			t.Errorf("%q is no name for a criterion of %s", c.Name, c.Program)
		}
		if seen[c.Name] {
			t.Errorf("%s is there twice", c.Name)
		}
		seen[c.Name] = true
		if c.Weight < 1 || c.Group == "" || !strings.HasSuffix(c.Sentence, ".") || strings.Contains(c.Sentence, "|") || c.try == nil {
			t.Errorf("%+v is not complete", c)
		}
	}
}

func TestSelect(t *testing.T) {
	tests := []struct {
		patterns []string
		want     int
		err      error
	}{
		{nil, len(Criteria()), nil},
		{[]string{"server/greets"}, 1, nil},
		{[]string{"greets"}, 2, nil},
		{[]string{"greets", "server/greet?"}, 2, nil},
		{[]string{"client/*", "server/*", "server-s/*"}, len(Criteria()), nil},
		{[]string{"greet?", "!client/*", "!server/greets"}, 1, nil},
		{[]string{"!greets"}, len(Criteria()) - 2, nil},
		{[]string{"!nonsense"}, 0, ErrSelection},
		{[]string{"nonsense"}, 0, ErrSelection},
		{[]string{"["}, 0, ErrSelection},
	}
	for _, tt := range tests {
		got, err := Select(Programs, tt.patterns)
		if len(got) != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%q selects %d, %v", tt.patterns, len(got), err)
		}
	}
}

func TestTheReadmeListsTheCriteria(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(readme), "<!-- criteria -->\n")
	got, _, found := strings.Cut(rest, "<!-- /criteria -->")
	if !found {
		t.Fatal("README.md has no place for the criteria")
	}
	var want bytes.Buffer
	if err := WriteMarkdown(&want, Criteria()); err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(got) != strings.TrimSpace(want.String()) {
		t.Error("the criteria in README.md are not those of `conform --list --markdown`")
	}
}

func TestSuitesThatCannotBeRun(t *testing.T) {
	for _, tt := range []struct {
		s    Suite
		want error
	}{
		{Suite{}, ErrNoPrograms},
		{Suite{Commands: map[Program]string{Server: "no-such-program-anywhere"}}, ErrCommand},
		{Suite{Commands: map[Program]string{Server: "true"}, Only: []string{"client/sends"}}, ErrSelection},
	} {
		if _, err := tt.s.Run(t.Context()); !errors.Is(err, tt.want) {
			t.Errorf("%+v: %v", tt.s, err)
		}
	}
}

func TestReports(t *testing.T) {
	t.Parallel()
	_, report := grade(t, Suite{
		Commands: map[Program]string{Server: refer(Server, "newline-after-error")[Server]},
		Only:     []string{"greets", "error-is-five-bytes"},
	})
	report.Results = append(report.Results, Result{
		Criterion: Criterion{Name: "server/1-mib-lossy-network", Program: Server, Group: "slow networks", Required: true},
		Verdict:   Skip, Skipped: "no <kernel>",
	}, Result{
		Criterion: Criterion{Name: "server/memory", Program: Server, Group: "service"},
		Verdict:   Error, Error: "making a file: the disk is full",
	})
	conforms := report.Conforms()
	untried := newReport(report.Commands, report.Results[:3], report.Took)
	report = newReport(report.Commands, report.Results, report.Took)
	if !conforms || untried.Conforms() || report.Conforms() || report.Unjudged() != 1 {
		t.Errorf("conforms: %v; with one that could not be tried: %v; and one that could not be judged: %v", conforms, untried.Conforms(), report.Conforms())
	}
	var text, plain, js, ju bytes.Buffer
	if err := errors.Join(report.WriteText(&text, true), report.WriteText(&plain, false), report.WriteJSON(&js), report.WriteJUnit(&ju)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"FAIL error-is-five-bytes", `expected: "ERROR" in 1.file`, `seen:     "ERROR\n"`, `sent 5: "wrong"`, "skipped: no <kernel>", "pass greets",
		"ERR  memory", "could not go on: making a file: the disk is full", ", 1 could not be judged", "1 required could not be tried here"} {
		if !strings.Contains(plain.String(), want) {
			t.Errorf("no %s in\n%s", want, &plain)
		}
	}
	if strings.Contains(plain.String(), "\x1b") || !strings.Contains(text.String(), "\x1b[31mFAIL") {
		t.Error("colours are where they should not be, or not where they should")
	}
	var back Report
	if err := json.Unmarshal(js.Bytes(), &back); err != nil || back.Robust.Failed != 1 || len(back.Results) != 4 || back.Unjudged() != 1 {
		t.Errorf("%v in %s", err, &js)
	}
	var doc struct {
		Suites []struct {
			Failures int `xml:"failures,attr"`
			Errors   int `xml:"errors,attr"`
			Skipped  int `xml:"skipped,attr"`
			Tests    int `xml:"tests,attr"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(ju.Bytes(), &doc); err != nil || len(doc.Suites) != 1 ||
		doc.Suites[0].Failures != 0 || doc.Suites[0].Errors != 2 || doc.Suites[0].Skipped != 1 || doc.Suites[0].Tests != 4 {
		t.Errorf("%v in %s", err, &ju)
	}
}

// What the kit cannot do is not the program's failure, whatever follows from it.
func TestWhatTheKitCannotDoIsNoFailure(t *testing.T) {
	t.Parallel()
	r := &run{Suite: Suite{Timeout: time.Minute}}
	dir := filepath.Join(t.TempDir(), "trial")
	got, _ := r.try(t.Context(), Criterion{try: func(t *trial) {
		t.put(filepath.Join(dir, "missing", "file"), text("hello"))
		t.fail("anything", "nothing")
		t.skip("enough")
	}}, dir, nil)
	if got.Verdict != Error || got.Failure != nil || got.Skipped != "" || !strings.HasPrefix(got.Error, "making a file: ") {
		t.Errorf("%+v", got)
	}
}

// echo serves one connection by sending back what it got, after its end, and
// says how long each read was.
func echo(t *testing.T) (addr string, reads <-chan []int) {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	done := make(chan []int, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			done <- nil
			return
		}
		defer conn.Close()
		var all []byte
		var sizes []int
		buf := make([]byte, 64<<10)
		for err == nil {
			var n int
			n, err = conn.Read(buf)
			if n > 0 {
				all, sizes = append(all, buf[:n]...), append(sizes, n)
			}
		}
		if err == io.EOF {
			conn.Write(all)
		}
		done <- sizes
	}()
	return ln.Addr().String(), done
}

func TestProxiesShapeButDoNotChange(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		shape shape
		check func(t *testing.T, reads []int, took time.Duration)
	}{
		{"as it comes", shape{}, func(t *testing.T, reads []int, took time.Duration) {}},
		{"fragments", shape{fragment: 3}, func(t *testing.T, reads []int, took time.Duration) {
			if len(reads) < 50 { // of 1000/3, on a machine that is busy
				t.Errorf("%d reads", len(reads))
			}
		}},
		{"coalesces", shape{coalesce: 300 * time.Millisecond}, func(t *testing.T, reads []int, took time.Duration) {
			if !slices.Equal(reads, []int{1000}) {
				t.Errorf("reads of %v", reads)
			}
		}},
		{"delays", shape{delay: 200 * time.Millisecond}, func(t *testing.T, reads []int, took time.Duration) {
			if took < 400*time.Millisecond {
				t.Errorf("took %v", took)
			}
		}},
		{"stalls", shape{stall: 300 * time.Millisecond, stallEvery: 500}, func(t *testing.T, reads []int, took time.Duration) {
			if took < 600*time.Millisecond {
				t.Errorf("took %v", took)
			}
		}},
		{"is slow", shape{rate: 4000}, func(t *testing.T, reads []int, took time.Duration) {
			if took < 450*time.Millisecond {
				t.Errorf("took %v", took)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			target, reads := echo(t)
			tr := &trial{ctx: t.Context()}
			t.Cleanup(tr.cleanUp)
			want := random(1, 1000)
			began := time.Now()
			p := tr.dial(nil, tr.proxy(target, tt.shape))
			b, err := io.ReadAll(want.reader())
			if err != nil {
				t.Fatal(err)
			}
			p.say(string(b[:400]), string(b[400:])).halfClose().take(want)
			if tr.over() {
				t.Fatal(tr.broken, tr.failure)
			}
			tt.check(t, <-reads, time.Since(began))
		})
	}
}

func TestAProxyResetsBothSides(t *testing.T) {
	t.Parallel()
	target, reads := echo(t)
	tr := &trial{ctx: t.Context()}
	t.Cleanup(tr.cleanUp)
	p := tr.dial(nil, tr.proxy(target, shape{resetAfter: 300}))
	p.give(random(1, 1000)).awaitEnd(patience, "", "after a reset")
	if tr.over() || p.end != reset {
		t.Errorf("%s %v, %v", tr.broken, tr.failure, p.end)
	}
	sum := 0
	for _, n := range <-reads {
		sum += n
	}
	if sum > 300 {
		t.Errorf("%d bytes came through", sum)
	}
}

// The namespaces, and what connects them: a cable, with a discipline that every
// kernel has in place of netem, and the kit's own wire, where the kernel has not
// the one that is wanted.
func TestProgramsCanBeGradedInANetworkOfTheirOwn(t *testing.T) {
	t.Parallel()
	for _, discipline := range []string{"pfifo", "no-such-discipline"} {
		t.Run(discipline, func(t *testing.T) {
			t.Parallel()
			gradeInANetworkOfItsOwn(t, discipline)
		})
	}
}

func gradeInANetworkOfItsOwn(t *testing.T, discipline string) {
	var l lab
	if err := l.build(t.Context(), []string{discipline}); err != nil {
		t.Skip(err)
	}
	defer l.close()
	if isWire := l.note != ""; isWire != (discipline == "no-such-discipline") {
		t.Errorf("with the discipline %s: %q", discipline, l.note)
	}
	sut := &network{enter: l.sut.do, host: kitAddress}
	kit := &network{enter: l.kit.do, host: sutAddress}
	for _, p := range Programs {
		program, err := parseCommand(refer(p, "")[p])
		if err != nil {
			t.Fatal(err)
		}
		tr := &trial{ctx: t.Context(), suite: &run{Suite: Suite{machine: shared}, programs: map[Program]command{p: program}}, program: p, home: t.TempDir(), starting: shared.starting}
		what := random(1, 200_000)
		if p == Client {
			ln := tr.listen(&network{enter: kit.enter, host: sut.host})
			c := tr.send(ln, sending{payload: what, launch: launch{net: sut}})
			tr.accept(ln).receive(what)
			c.succeeds(sometime, "after the server has closed")
		} else {
			s := tr.serve(serving{launch: launch{net: sut}, side: kit})
			s.connect().upload(what)
			s.tells(received(what))
			// Nobody listens there for this machine.
			if conn, err := net.Dial("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))); err == nil {
				conn.Close()
				t.Errorf("%s is not in a network of its own", p)
			}
		}
		tr.cleanUp()
		if tr.over() {
			t.Errorf("%s: %s %v", p, tr.broken, tr.failure)
		}
	}
}

func TestALabThatCannotBeMadeSaysWhy(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	var l lab
	if err := l.build(t.Context(), netemQdisc); err == nil {
		t.Error("it was made")
	} else if l.kit != nil || l.sut != nil {
		t.Error("its namespaces are left")
	}
}
