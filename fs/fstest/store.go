package fstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Store is a store for stage.Save (stage.Store).
type Store interface {
	Create(ctx context.Context, name string) (pending, error)
	Remove(name string) error
}

// pending is stage.Pending.
type pending = interface {
	io.Writer
	Commit() error
	Abort() error
}

// Place is an empty [Store], with another view of what it keeps.
type Place struct {
	Store Store

	// Read returns the visible payload of that name, or an os.ErrNotExist. Many goroutines
	// call it at a time. It is required.
	Read func(name string) ([]byte, error)

	// Names, if not nil, returns the names of everything that the store keeps, pending
	// payloads included, in any order.
	Names func() ([]string, error)

	// NoReplace is true for a store that replaces nothing: a Commit under a name that is
	// taken returns an os.ErrExist, and Remove an errors.ErrUnsupported.
	NoReplace bool
}

// TestStore tests that a store keeps the rules of package stage. It calls open for a new
// Place for each rule; open releases it with t.Cleanup. Each rule is a subtest, whose failure
// quotes the rule:
//
//   - complete: a payload is visible after Commit, and no part of it before;
//   - replace: a payload takes the place of an earlier one at once;
//   - no-replace: in a store that replaces nothing the first payload stays;
//   - abort: nothing is left of an aborted payload, and an earlier one stays;
//   - ended: Abort after Commit does nothing;
//   - concurrency: payloads can be pending and committed at the same time, also under one
//     name (run the test with the race detector);
//   - remove: Remove removes what is visible;
//   - names: a name that is not plain is refused, or does no harm to others;
//   - context: its end, before Abort or after Commit, does no harm;
//   - reset, file, wrote, commit-as: the rules of stage.Resetter, stage.Filer,
//     stage.WriteCounter and stage.Committer, for a Pending that implements one.
//
// After each rule, TestStore fails if a goroutine is left that the store started.
func TestStore(t *testing.T, open func(t testing.TB) Place) {
	for _, r := range storeRules {
		t.Run(r.name, func(t *testing.T) {
			// Goroutines have the labels of those that began them.
			label := fmt.Sprintf("%s %d", r.name, checks.Add(1))
			pprof.Do(t.Context(), pprof.Labels("fstest", label), func(context.Context) {
				t.Run("check", func(t *testing.T) {
					place := open(t)
					if place.Store == nil || place.Read == nil {
						t.Fatal("fstest: a Place without Store or Read")
					}
					r.check(&storeCheck{T: t, storeRule: r, Place: place})
				})
			})
			if left := labelled(label); left != "" {
				t.Errorf("goroutines are left:\n%s\n\tthe rule: a store waits for the goroutines that it starts", left)
			}
		})
	}
}

// checks counts the checks, for their labels.
var checks atomic.Int64

// patience is how long a goroutine may take to end.
const patience = 5 * time.Second

// labelled waits until the goroutines with this label have ended, and returns the stacks of
// those that have not.
func labelled(label string) string {
	for start := time.Now(); ; runtime.Gosched() {
		var buf bytes.Buffer
		pprof.Lookup("goroutine").WriteTo(&buf, 1)
		var left []string
		for g := range strings.SplitSeq(buf.String(), "\n\n") {
			if strings.Contains(g, fmt.Sprintf("%q:%q", "fstest", label)) {
				left = append(left, g)
			}
		}
		if len(left) == 0 || time.Since(start) > patience {
			return strings.Join(left, "\n")
		}
	}
}

// storeRule is one rule of package stage for a store.
type storeRule struct {
	name, text, where string
	check             func(c *storeCheck)
}

var storeRules = []storeRule{
	{"complete", "a payload is visible after its Commit, and no part of it before", "stage.Pending", checkComplete},
	{"replace", "a payload takes the place of an earlier one at once", "stage.Pending", checkReplace},
	{"no-replace", "in a store that replaces nothing the first payload stays: a Commit under its name is an os.ErrExist that leaves nothing, and Remove an errors.ErrUnsupported", "stage.Pending and stage.Store", checkNoReplace},
	{"abort", "Abort removes what was written, and nothing else", "stage.Pending", checkAbort},
	{"ended", "Abort after a Commit that succeeded does nothing", "stage.Pending", checkEnded},
	{"concurrency", "a store is safe for concurrent use", "stage.Store", checkStoreConcurrency},
	{"remove", "Remove removes what is visible, and is no error if that is nothing", "stage.Store", checkRemove},
	{"names", "a name stands for one payload, and does no harm to others", "stage.Store", checkNames},
	{"context", "the context is cancelled before Abort and after Commit has returned", "stage.Store", checkContext},
	{"reset", "Reset removes what was written, so that other bytes can be written", "stage.Resetter", checkReset},
	{"file", "what is written to the File is written to the payload, and the Pending closes it at its end", "stage.Filer", checkFile},
	{"wrote", "Wrote changes nothing of the payload", "stage.WriteCounter", checkWrote},
	{"commit-as", "CommitAs commits under that name only, with or without a sync, and does no harm to others", "stage.Committer", checkCommitAs},
}

// storeCheck is a check under way.
type storeCheck struct {
	*testing.T
	storeRule
	Place
}

// broken reports that the store breaks the rule, and how.
func (c *storeCheck) broken(format string, args ...any) {
	c.Helper()
	c.Errorf(format+"\n\tthe rule: %s (%s)", append(args, c.text, c.where)...)
}

// begin creates a payload and writes these pieces.
func (c *storeCheck) begin(name string, pieces ...string) pending {
	c.Helper()
	p, err := c.Store.Create(c.Context(), name)
	if err != nil {
		c.Fatalf("Create %s: %v", name, err)
	}
	c.write(p, pieces...)
	return p
}

func (c *storeCheck) write(p pending, pieces ...string) {
	c.Helper()
	for _, s := range pieces {
		if n, err := io.WriteString(p, s); n != len(s) || err != nil {
			c.Fatalf("Write of %d bytes: %d, %v", len(s), n, err)
		}
	}
}

func (c *storeCheck) ok(what string, err error) {
	c.Helper()
	if err != nil {
		c.broken("%s: %v", what, err)
	}
}

// taken checks err of a Commit under a name that is taken, and aborts p as stage.Save does.
func (c *storeCheck) taken(what string, p pending, err error) {
	c.Helper()
	if !errors.Is(err, os.ErrExist) {
		c.broken("%s under a name that is taken: %v, want os.ErrExist", what, err)
	}
	c.ok("Abort after it", p.Abort())
}

// replaced checks that a Commit under a name that was taken has replaced the earlier payload,
// or has failed if the store replaces nothing.
func (c *storeCheck) replaced(what string, p pending, err error, name, earlier, later string) {
	c.Helper()
	if c.NoReplace {
		c.taken(what, p, err)
		later = earlier
	} else {
		c.ok(what, err)
	}
	c.holds("after "+what, name, later)
}

// holds checks the content of name.
func (c *storeCheck) holds(when, name, want string) {
	c.Helper()
	if got, err := c.Read(name); err != nil {
		c.broken("%s %s cannot be read: %v", when, name, err)
	} else if string(got) != want {
		c.broken("%s %s is %s, want %s", when, name, short(got), short([]byte(want)))
	}
}

func (c *storeCheck) nothing(when, name string) {
	c.Helper()
	if got, err := c.Read(name); !errors.Is(err, os.ErrNotExist) {
		c.broken("%s %s is visible: %s, %v", when, name, short(got), err)
	}
}

// keeps checks that the store keeps these names only.
func (c *storeCheck) keeps(when string, want ...string) {
	c.Helper()
	if c.Names == nil {
		return
	}
	got, err := c.Names()
	if err != nil {
		c.Fatal(err)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		c.broken("%s the store keeps %q, want %q", when, got, want)
	}
}

func short(b []byte) string {
	if len(b) > 40 {
		return fmt.Sprintf("%d bytes, %q…", len(b), b[:40])
	}
	return fmt.Sprintf("%q", b)
}

func checkComplete(c *storeCheck) {
	large := strings.Repeat("0123456789abcde\n", 5<<16) // 5 MiB
	for i, pieces := range [][]string{
		nil, {""}, {"x"}, {"hello, ", "world", "", "\r\n\x00"}, slices.Repeat([]string{"ab"}, 1000),
		{large}, {large[:1<<20+1], large[1<<20+1 : 1<<20+2], large[1<<20+2:]},
	} {
		name, want := fmt.Sprintf("%d.file", i+1), strings.Join(pieces, "")
		p := c.begin(name, pieces...)
		c.nothing("before its Commit", name)
		c.ok("Commit", p.Commit())
		c.holds("after its Commit", name, want)
	}
	c.keeps("after all Commits", "1.file", "2.file", "3.file", "4.file", "5.file", "6.file", "7.file")
}

func checkReplace(c *storeCheck) {
	if c.NoReplace {
		c.Skip("the store replaces nothing")
	}
	const rounds = 50
	content := func(i int) string { return strings.Repeat(string(rune('a'+i%26)), 10_000+i) }
	c.ok("Commit", c.begin("1.file", content(0)).Commit())
	stop := make(chan struct{})
	var reading sync.WaitGroup
	for range 2 {
		reading.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				got, err := c.Read("1.file")
				i := len(got) - 10_000
				if err != nil || i < 0 || i > rounds || string(got) != content(i) {
					c.broken("while it is replaced, 1.file is %s, %v", short(got), err)
					return
				}
				runtime.Gosched()
			}
		})
	}
	for i := 1; i <= rounds; i++ {
		p := c.begin("1.file", content(i)[:5000], content(i)[5000:])
		c.holds("before the next Commit", "1.file", content(i-1))
		c.ok("Commit", p.Commit())
		c.holds("after its Commit", "1.file", content(i))
	}
	close(stop)
	reading.Wait()
	c.keeps("after all Commits", "1.file")
}

func checkNoReplace(c *storeCheck) {
	if !c.NoReplace {
		c.Skip("the store replaces")
	}
	first := c.begin("1.file", "first")
	before := c.begin("1.file", "begun before the first was committed")
	c.ok("Commit", first.Commit())
	later := func(p pending) {
		c.holds("before the next Commit", "1.file", "first")
		c.taken("Commit", p, p.Commit())
		c.holds("after a Commit under a name that is taken", "1.file", "first")
		c.keeps("after a Commit under a name that is taken", "1.file")
	}
	later(before)
	for _, content := range []string{"", "later", "first"} {
		later(c.begin("1.file", content))
	}
	c.ok("Commit under another name", c.begin("2.file", "second").Commit())
	if err := c.Store.Remove("1.file"); !errors.Is(err, errors.ErrUnsupported) {
		c.broken("Remove: %v, want errors.ErrUnsupported", err)
	}
	c.holds("after Remove", "1.file", "first")
	c.keeps("after all", "1.file", "2.file")
}

func checkAbort(c *storeCheck) {
	c.ok("Commit", c.begin("1.file", "earlier").Commit())
	for _, name := range []string{"1.file", "2.file"} {
		for _, pieces := range [][]string{nil, {"given ", "up"}} {
			p := c.begin(name, pieces...)
			c.ok("Abort", p.Abort())
			c.ok("a second Abort", p.Abort())
		}
	}
	c.holds("after an Abort", "1.file", "earlier")
	c.nothing("after its Abort", "2.file")
	c.keeps("after all Aborts", "1.file")
}

func checkEnded(c *storeCheck) {
	p := c.begin("1.file", "payload")
	c.ok("Commit", p.Commit())
	c.ok("Abort after Commit", p.Abort())
	c.holds("after Commit and Abort", "1.file", "payload")
	c.keeps("after Commit and Abort", "1.file")
}

func checkStoreConcurrency(c *storeCheck) {
	const many = 100
	content := func(i int) string { return strings.Repeat(fmt.Sprintf("%d,", i), 500) }
	own := func(i int) string { return fmt.Sprintf("%d.file", i+1) }
	all := make(map[string][]pending) // all are pending at once
	var want []string
	for i := range many {
		all[own(i)] = append(all[own(i)], c.begin(own(i)))
		all["same"] = append(all["same"], c.begin("same"))
		want = append(want, own(i))
	}
	var wg sync.WaitGroup
	var first atomic.Int64 // of the same, how many were
	end := func(p pending, s string, abort, same bool) {
		for half := range slices.Chunk([]byte(s), len(s)/2+1) {
			if _, err := p.Write(half); err != nil {
				c.Errorf("Write: %v", err)
			}
		}
		if abort {
			c.ok("Abort", p.Abort())
		} else if err := p.Commit(); err != nil && same && c.NoReplace {
			c.taken("Commit", p, err)
		} else {
			c.ok("Commit", err)
			if same {
				first.Add(1)
			}
		}
	}
	for i := range many {
		wg.Go(func() { end(all[own(i)][0], content(i), false, false) })
		wg.Go(func() { end(all["same"][i], content(i), i%3 == 0, true) })
		wg.Go(func() { c.remove("missing") })
	}
	wg.Wait()
	for i := range many {
		c.holds("after many Commits", own(i), content(i))
	}
	got, err := c.Read("same")
	found := false
	for i := range many {
		found = found || i%3 != 0 && string(got) == content(i)
	}
	if err != nil || !found {
		c.broken("after many Commits of the same name, it is none of them: %s, %v", short(got), err)
	}
	if n := first.Load(); c.NoReplace && n != 1 {
		c.broken("of many Commits of the same name %d were the first", n)
	}
	c.keeps("after many Commits", append(want, "same")...)
}

// remove removes name, if the store removes anything.
func (c *storeCheck) remove(name string) {
	c.Helper()
	if err := c.Store.Remove(name); !c.NoReplace || !errors.Is(err, errors.ErrUnsupported) {
		c.ok("Remove", err)
	}
}

func checkRemove(c *storeCheck) {
	if c.NoReplace {
		c.Skip("the store replaces nothing")
	}
	c.ok("Remove of nothing", c.Store.Remove("1.file"))
	c.ok("Commit", c.begin("1.file", "one").Commit())
	c.ok("Commit", c.begin("2.file", "two").Commit())
	p := c.begin("1.file", "later")
	c.ok("Remove", c.Store.Remove("1.file"))
	c.nothing("after Remove", "1.file")
	c.ok("a second Remove", c.Store.Remove("1.file"))
	c.holds("after Remove of another", "2.file", "two")
	c.ok("Commit after Remove of what was there", p.Commit())
	c.holds("after Remove and Commit", "1.file", "later")
	c.keeps("after all", "1.file", "2.file")
}

// badNames are not plain names, or unusual ones.
var badNames = []string{
	"", ".", "..", "/", "//", "../1.file", "./1.file", "../../etc/passwd", "/1.file", "1.file/", "1.file/.", "1.file/x", "x/../1.file",
	"a/b", `..\1.file`, "1.file\x00", "\xff", strings.Repeat("n", 5000),
}

func checkNames(c *storeCheck) {
	c.ok("Commit", c.begin("1.file", "one").Commit())
	want := []string{"1.file"}
	for _, name := range badNames {
		p, err := c.Store.Create(c.Context(), name)
		if err != nil {
			c.Store.Remove(name)
			c.holds(fmt.Sprintf("after Create and Remove of %.20q", name), "1.file", "one")
			continue
		}
		c.write(p, "harm")
		want = append(want, c.commitBadName(p, name, p.Commit)...)
		c.holds(fmt.Sprintf("after Commit of %.20q", name), "1.file", "one")
	}
	c.keeps("after many names", want...)
}

// commitBadName commits p, and returns what the store keeps of it.
func (c *storeCheck) commitBadName(p pending, name string, commit func() error) (kept []string) {
	if err := commit(); err != nil {
		p.Abort()
		return nil
	}
	if got, err := c.Read(name); string(got) != "harm" {
		c.broken("%.20q has been committed, and is %s, %v", name, short(got), err)
	}
	c.remove(name)
	if c.NoReplace {
		return []string{name}
	}
	return nil
}

func checkContext(c *storeCheck) {
	cause := errors.New("the connection failed")
	ctx, cancel := context.WithCancelCause(c.Context())
	p, err := c.Store.Create(ctx, "1.file")
	if err != nil {
		c.Fatal(err)
	}
	c.write(p, "given up")
	cancel(cause)
	c.ok("Abort after the end of the context", p.Abort())
	c.nothing("after the end of the context, and Abort", "1.file")

	ctx, cancel = context.WithCancelCause(c.Context())
	if p, err = c.Store.Create(ctx, "2.file"); err != nil {
		c.Fatal(err)
	}
	c.write(p, "payload")
	c.ok("Commit", p.Commit())
	cancel(cause)
	c.ok("Abort after Commit", p.Abort())
	c.holds("after Commit, and the end of the context", "2.file", "payload")
	c.keeps("after all", "2.file")
}

// optional returns p as a T, or skips the check.
func optional[T any](c *storeCheck, p pending) T {
	more, ok := p.(T)
	if !ok {
		p.Abort()
		c.Skipf("a %T does not implement it", p)
	}
	return more
}

type (
	resetter    interface{ Reset() error }
	filer       interface{ File() *os.File }
	progressive interface{ Wrote(n int) }
	committer   interface {
		CommitAs(name string, sync bool) error
	}
)

func checkReset(c *storeCheck) {
	for i, first := range []string{"", "short", strings.Repeat("long", 100_000)} {
		name := fmt.Sprintf("%d.file", i+1)
		p := c.begin(name, first)
		r := optional[resetter](c, p)
		c.ok("Reset", r.Reset())
		c.nothing("after Reset", name)
		c.write(p, "ERR", "OR")
		c.ok("Reset", r.Reset())
		c.write(p, "ERROR")
		c.ok("Commit", p.Commit())
		c.holds("after Reset and Commit", name, "ERROR")
	}
	p := c.begin("4.file", "payload")
	c.ok("Reset", optional[resetter](c, p).Reset())
	c.ok("Abort", p.Abort())
	c.keeps("after all", "1.file", "2.file", "3.file")
}

func checkFile(c *storeCheck) {
	for i, end := range []func(pending) error{pending.Commit, pending.Abort} {
		name := fmt.Sprintf("%d.file", i+1)
		p := c.begin(name, "by Write, ")
		file := optional[filer](c, p).File()
		if _, err := file.WriteString("by the file, "); err != nil {
			c.Fatal(err)
		}
		c.write(p, "and by Write")
		c.nothing("before its Commit", name)
		c.ok("the end", end(p))
		if _, err := file.Stat(); !errors.Is(err, os.ErrClosed) {
			c.broken("after its end the file is still open: %v", err)
		}
	}
	c.holds("after its Commit", "1.file", "by Write, by the file, and by Write")
	c.nothing("after its Abort", "2.file")
	c.keeps("after all", "1.file")
}

func checkWrote(c *storeCheck) {
	piece := strings.Repeat("x", 1<<20)
	p := c.begin("1.file")
	w := optional[progressive](c, p)
	for range 20 {
		c.write(p, piece)
		w.Wrote(len(piece))
	}
	c.nothing("before its Commit", "1.file")
	c.ok("Commit", p.Commit())
	c.holds("after its Commit", "1.file", strings.Repeat(piece, 20))
	c.keeps("after all", "1.file")
}

func checkCommitAs(c *storeCheck) {
	commitAs := func(p pending, name string, sync bool) error {
		return optional[committer](c, p).CommitAs(name, sync)
	}
	for i, sync := range []bool{true, false} {
		first, second, third := fmt.Sprintf("1-%d", i), fmt.Sprintf("2-%d", i), fmt.Sprintf("3-%d", i)
		when := fmt.Sprintf("CommitAs, sync: %t", sync)
		p := c.begin(first, "payload")
		c.ok(when, commitAs(p, second, sync))
		c.ok("Abort after "+when, p.Abort())
		c.nothing("after "+when, first)
		c.holds("after "+when, second, "payload")

		c.ok(when, commitAs(c.begin(first, "same name"), first, sync))
		c.holds("after "+when, first, "same name")

		c.ok(when, commitAs(c.begin(first, "another"), third, sync))
		c.holds("after "+when+" of another payload", first, "same name")

		p = c.begin("pending", "later")
		c.replaced(when, p, commitAs(p, second, sync), second, "payload", "later")
		c.nothing("after "+when, "pending")
	}
	want := []string{"1-0", "1-1", "2-0", "2-1", "3-0", "3-1"}
	for _, name := range badNames {
		p := c.begin("pending", "harm")
		want = append(want, c.commitBadName(p, name, func() error { return commitAs(p, name, true) })...)
		c.holds(fmt.Sprintf("after CommitAs %.20q", name), "1-0", "same name")
		c.nothing(fmt.Sprintf("after CommitAs %.20q", name), "pending")
	}
	c.keeps("after all", want...)
}
