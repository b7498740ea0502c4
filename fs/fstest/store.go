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

// Store is what stage.Save puts payloads into (stage.Store).
type Store interface {
	Create(ctx context.Context, name string) (Pending, error)
	Remove(name string) error
}

// Pending is a payload that is not yet to be seen (stage.Pending). It may have more
// methods, as stage.Save knows them.
type Pending = interface {
	io.Writer
	Commit() error
	Abort() error
}

// Place is a [Store] that nothing has been put into, and how others see what it keeps.
type Place struct {
	Store Store

	// Read returns what is visible as name, or an os.ErrNotExist. It is called by many
	// goroutines at a time. It must not be nil.
	Read func(name string) ([]byte, error)

	// Names returns the names of all that the store keeps, also of what is pending, in
	// any order. Nil means that there is no way to see that.
	Names func() ([]string, error)

	// CommitsOnce is the promise that to commit twice is an os.ErrClosed.
	CommitsOnce bool

	// NoReplace is for a store that replaces nothing: a Commit under a name that is taken
	// is an os.ErrExist.
	NoReplace bool
}

// TestStore tests a store by what package stage asks of one. open returns a new Place for
// each check, and gives back by t.Cleanup what that takes. Each rule is a subtest, whose
// failure says what the rule is and where it is written:
//
//   - whole: nothing is to be seen before Commit, and everything after it;
//   - replace: a payload takes the place of an earlier one at once;
//   - no-replace: or, in a store that replaces nothing, the first stays, whoever comes
//     later is told so, and nothing of that is left;
//   - abort: nothing is left of a payload that is thrown away, and what was there stays;
//   - ended: Abort after Commit does nothing, and a second Commit is an error if that is
//     promised;
//   - concurrency: any number may be pending, and be committed, at a time, also under the
//     same name; the race detector has to be on to see all there is to it;
//   - remove: what is visible is removed, and nothing is no error;
//   - names: one that is no plain name is refused, or does no harm to others;
//   - context: its end, before Abort or after Commit, does no harm;
//   - reset, file, wrote, commit-unsynced, rename: what stage.Resetter, stage.Filer,
//     stage.Progressive, stage.UnsyncedCommitter and stage.Renamer say of a Pending that is
//     one.
//
// After each, no goroutine that it began may be left.
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
				t.Errorf("goroutines are left:\n%s\n\tthe rule: every goroutine has an owner who waits for it (CONTRIBUTING.md, Style)", left)
			}
		})
	}
}

// checks is how many have begun.
var checks atomic.Int64

// patience is how long a goroutine may take to end that has nothing left to do.
const patience = 5 * time.Second

// labelled waits until the goroutines with this label have ended, and returns those that
// have not.
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

// storeRule is one thing that package stage asks of a store.
type storeRule struct {
	name, text, where string
	check             func(c *storeCheck)
}

var storeRules = []storeRule{
	{"whole", "a payload is visible whole once it is committed, and not before", "stage.Pending", checkWhole},
	{"replace", "a payload takes the place of an earlier one at once", "stage.Pending", checkReplace},
	{"no-replace", "in a store that replaces nothing the first payload stays, and a Commit under its name is an os.ErrExist that leaves nothing", "stage.Pending and stage.Store", checkNoReplace},
	{"abort", "Abort throws away what was written, and nothing else", "stage.Pending", checkAbort},
	{"ended", "Abort after a Commit that succeeded does nothing, and a second Commit is what was promised", "stage.Pending", checkEnded},
	{"concurrency", "a store is safe for concurrent use", "stage.Store", checkStoreConcurrency},
	{"remove", "Remove removes what is visible, and it is no error if that is nothing", "stage.Store", checkRemove},
	{"names", "a name stands for one payload, and does no harm to others", "stage.Store", checkNames},
	{"context", "the context is cancelled before Abort and after Commit has returned", "stage.Store", checkContext},
	{"reset", "Reset throws away what was written, so that something else can be", "stage.Resetter", checkReset},
	{"file", "what is written to the File is written to the payload, and the File is the Pending's own", "stage.Filer", checkFile},
	{"wrote", "Wrote is told how long the payload has become, and changes nothing of it", "stage.Progressive", checkWrote},
	{"commit-unsynced", "CommitUnsynced commits, and only what is durable may come later", "stage.UnsyncedCommitter", checkUnsynced},
	{"rename", "a renamed payload is committed under its new name only, and Rename harms no other", "stage.Renamer", checkRename},
}

// storeCheck is a check under way.
type storeCheck struct {
	*testing.T
	storeRule
	Place
}

// broken says that the rule is, and how that was seen.
func (c *storeCheck) broken(format string, args ...any) {
	c.Helper()
	c.Errorf(format+"\n\tthe rule: %s (%s)", append(args, c.text, c.where)...)
}

// begin creates a payload, with these pieces in it.
func (c *storeCheck) begin(name string, pieces ...string) Pending {
	c.Helper()
	p, err := c.Store.Create(c.Context(), name)
	if err != nil {
		c.Fatalf("Create %s: %v", name, err)
	}
	c.write(p, pieces...)
	return p
}

func (c *storeCheck) write(p Pending, pieces ...string) {
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

// taken says it unless err is how a Commit under a name that is taken has to end, and
// ends p as who commits does.
func (c *storeCheck) taken(what string, p Pending, err error) {
	c.Helper()
	if !errors.Is(err, os.ErrExist) {
		c.broken("%s under a name that is taken: %v, want os.ErrExist", what, err)
	}
	c.ok("Abort after it", p.Abort())
}

// replaced says it unless a payload that was committed under a name that was taken has
// replaced what was there, or has not if that is promised.
func (c *storeCheck) replaced(what string, p Pending, err error, name, earlier, later string) {
	c.Helper()
	if c.NoReplace {
		c.taken(what, p, err)
		later = earlier
	} else {
		c.ok(what, err)
	}
	c.holds("after "+what, name, later)
}

// holds says it unless name has this content.
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

// keeps says it unless these names are all there are.
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

func checkWhole(c *storeCheck) {
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
		c.Skip("it is one that replaces nothing")
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
		c.Skip("it is one that replaces")
	}
	first := c.begin("1.file", "first")
	before := c.begin("1.file", "begun before the first was committed")
	c.ok("Commit", first.Commit())
	later := func(p Pending) {
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
	c.ok("Remove", c.Store.Remove("1.file"))
	c.ok("Commit under a name that is no longer taken", c.begin("1.file", "later").Commit())
	c.holds("after Remove and Commit", "1.file", "later")
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
	if !c.CommitsOnce {
		return
	}
	for _, end := range []func() error{p.Commit, p.Abort, p.Commit} {
		if err := end(); err != nil && !errors.Is(err, os.ErrClosed) {
			c.broken("a second Commit: %v, want os.ErrClosed", err)
		}
	}
	if err := p.Commit(); !errors.Is(err, os.ErrClosed) {
		c.broken("a second Commit: %v, want os.ErrClosed", err)
	}
	c.holds("after two Commits", "1.file", "payload")
	q := c.begin("2.file", "payload")
	c.ok("Abort", q.Abort())
	if err := q.Commit(); !errors.Is(err, os.ErrClosed) {
		c.broken("Commit after Abort: %v, want os.ErrClosed", err)
	}
	c.nothing("after Abort and Commit", "2.file")
	c.keeps("after all", "1.file")
}

func checkStoreConcurrency(c *storeCheck) {
	const many = 100
	content := func(i int) string { return strings.Repeat(fmt.Sprintf("%d,", i), 500) }
	own := func(i int) string { return fmt.Sprintf("%d.file", i+1) }
	pending := make(map[string][]Pending) // all at once, before any is committed
	var want []string
	for i := range many {
		pending[own(i)] = append(pending[own(i)], c.begin(own(i)))
		pending["same"] = append(pending["same"], c.begin("same"))
		want = append(want, own(i))
	}
	var wg sync.WaitGroup
	var first atomic.Int64 // of the same, how many were
	end := func(p Pending, s string, abort, same bool) {
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
		wg.Go(func() { end(pending[own(i)][0], content(i), false, false) })
		wg.Go(func() { end(pending["same"][i], content(i), i%3 == 0, true) })
		wg.Go(func() { c.ok("Remove", c.Store.Remove("nobody's")) })
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

func checkRemove(c *storeCheck) {
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

// badNames are no plain names, or hardly any.
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
		if err := p.Commit(); err == nil {
			if got, err := c.Read(name); string(got) != "harm" {
				c.broken("%.20q has been committed, and is %s, %v", name, short(got), err)
			}
			c.ok("Remove", c.Store.Remove(name))
		} else {
			p.Abort()
		}
		c.holds(fmt.Sprintf("after Commit of %.20q", name), "1.file", "one")
	}
	c.keeps("after many names", want...)
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

// optional returns a Pending's method set T, or skips the check.
func optional[T any](c *storeCheck, p Pending) T {
	more, ok := p.(T)
	if !ok {
		p.Abort()
		c.Skipf("a %T is none", p)
	}
	return more
}

type (
	resetter    interface{ Reset() error }
	filer       interface{ File() *os.File }
	progressive interface{ Wrote(n int) }
	unsynced    interface{ CommitUnsynced() error }
	renamer     interface{ Rename(name string) error }
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
	for i, end := range []func(Pending) error{Pending.Commit, Pending.Abort} {
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

func checkUnsynced(c *storeCheck) {
	p := c.begin("1.file", "payload")
	u := optional[unsynced](c, p)
	c.nothing("before its Commit", "1.file")
	c.ok("CommitUnsynced", u.CommitUnsynced())
	c.ok("Abort after CommitUnsynced", p.Abort())
	c.holds("after its Commit", "1.file", "payload")
	p = c.begin("1.file", "later")
	c.replaced("CommitUnsynced", p, optional[unsynced](c, p).CommitUnsynced(), "1.file", "payload", "later")
	c.keeps("after all", "1.file")
}

func checkRename(c *storeCheck) {
	begin := func(name, to string) Pending {
		p := c.begin(name, "pay")
		c.ok("Rename", optional[renamer](c, p).Rename(to))
		c.write(p, "load")
		return p
	}
	p := begin("1.file", "2.file")
	c.nothing("after Rename and before its Commit", "1.file")
	c.nothing("after Rename and before its Commit", "2.file")
	c.ok("Commit", p.Commit())
	c.nothing("after Rename and Commit", "1.file")
	c.holds("after Rename and Commit", "2.file", "payload")
	c.keeps("after Rename and Commit", "2.file")

	c.ok("Commit", c.begin("1.file", "earlier").Commit())
	c.ok("Commit", begin("1.file", "3.file").Commit())
	c.holds("after Rename of another to 3.file, and its Commit", "1.file", "earlier")
	c.holds("after Rename and Commit", "3.file", "payload")

	p = begin("4.file", "1.file")
	c.replaced("Commit after Rename", p, p.Commit(), "1.file", "earlier", "payload")
	c.nothing("after Rename to 1.file", "4.file")

	c.ok("Remove", c.Store.Remove("1.file"))
	c.ok("Commit", c.begin("1.file", "earlier").Commit())
	for _, to := range []string{"1.file", "5.file"} {
		c.ok("Abort after Rename", begin("4.file", to).Abort())
	}
	c.ok("Abort after Rename", begin("1.file", "4.file").Abort())
	c.holds("after Rename and Abort", "1.file", "earlier")
	c.nothing("after Rename and Abort", "4.file")
	c.nothing("after Rename and Abort", "5.file")

	for _, name := range badNames {
		p := c.begin("4.file", "harm")
		if err := p.(renamer).Rename(name); err != nil {
			c.ok("Abort after a Rename that was refused", p.Abort())
		} else if err := p.Commit(); err != nil {
			p.Abort()
		} else {
			if got, err := c.Read(name); string(got) != "harm" {
				c.broken("it has been renamed to %.20q and committed, and is %s, %v", name, short(got), err)
			}
			c.ok("Remove", c.Store.Remove(name))
		}
		c.holds(fmt.Sprintf("after Rename of another to %.20q", name), "1.file", "earlier")
		c.nothing(fmt.Sprintf("after Rename to %.20q", name), "4.file")
	}
	c.keeps("after all", "1.file", "2.file", "3.file")
}
