package conformance

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// trial is one criterion being tried. Whatever is done through it (processes,
// connections) does nothing any more once the trial has failed, so that a script
// can be read from the first line to the last without a look at errors.
type trial struct {
	ctx     context.Context
	suite   *run
	program Program
	home    string // a fresh directory
	tapes   recording
	note    string // for the report

	// starting is how many of the trial's programs, and of others', may start at
	// the same time; see machine.
	starting chan struct{}
	reserved bool // one of them, for the next to start

	mu        sync.Mutex
	processes []*process // in the order in which they were started
	failure   *Failure
	about     *process // which of them the failure is about, if it is about one
	late      bool     // a machine that was busy could be to blame for the failure
	skipped   string
	broken    string // what the kit could not do
	dirs      int
	cleanups  []func()
}

// Failure is why a criterion does not hold.
type Failure struct {
	Expected string `json:"expected"`
	Seen     string `json:"seen"`

	// Wire is what was sent and received, or as much of it as somebody would
	// read, and Omitted how many events were left out.
	Wire    []Event `json:"wire,omitempty"`
	Omitted int     `json:"omitted,omitempty"`

	// Stderr is what the program said there that the failure is about, or else
	// what each said that was started.
	Stderr []Said `json:"stderr,omitempty"`
}

// Said is what a program has said that was started with some arguments.
type Said struct {
	Args []string `json:"args"`
	Text string   `json:"text"`
}

// fail ends the trial. Only the first failure counts: the others follow from it.
func (t *trial) fail(expected, format string, args ...any) {
	t.failAbout(nil, expected, format, args...)
}

func (t *trial) failAbout(p *process, expected, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.decided() {
		return
	}
	seen := fmt.Sprintf(format, args...)
	// Who was waited for had not all the time that is its due.
	if limit, ok := t.ctx.Deadline(); ok && !time.Now().Before(limit) {
		t.broken = fmt.Sprintf("this takes longer than one criterion may (--timeout); still expected: %s, seen so far: %s", expected, seen)
		return
	}
	t.failure, t.about = &Failure{Expected: expected, Seen: seen}, p
}

// reserve takes a place for the next program to start, so that it does not wait for
// one while a client's ten seconds run.
func (t *trial) reserve() {
	if t.over() {
		return
	}
	if t.takePlace() {
		t.reserved = true
		t.later(func() {
			if t.reserved {
				<-t.starting
			}
		})
	}
}

// takePlace waits until one more program may start.
func (t *trial) takePlace() bool {
	select {
	case t.starting <- struct{}{}:
		return true
	case <-t.ctx.Done():
		t.fail("the trial to begin in time", "other programs are being started")
		return false
	}
}

// missed tells that the failure that may follow is about a limit.
func (t *trial) missed(limit time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if limit <= soon && !t.decided() {
		t.late = true
	}
}

// said is what was said on stderr that has to do with the failure. It is for who
// knows that no program runs any more.
func (t *trial) said() (all []Said) {
	for _, p := range t.processes {
		if text := p.err.String(); text != "" && (t.about == nil || t.about == p) {
			all = append(all, Said{p.args, text})
		}
	}
	return all
}

// skip ends a trial that cannot be made here.
func (t *trial) skip(why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.decided() {
		t.skipped = why
	}
}

// cannot ends a trial in which something fails on the kit's own side: it says
// nothing about the program.
func (t *trial) cannot(doing string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.decided() {
		t.broken = fmt.Sprintf("%s: %v", doing, err)
	}
}

// decided is over for who holds t.mu.
func (t *trial) decided() bool { return t.failure != nil || t.skipped != "" || t.broken != "" }

// over says that the trial has failed, was skipped, or cannot go on.
func (t *trial) over() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.decided()
}

// ensure is a plain condition.
func (t *trial) ensure(ok bool, expected, format string, args ...any) {
	if !ok {
		t.fail(expected, format, args...)
	}
}

// later has f called when the trial is over, last one first.
func (t *trial) later(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cleanups = append(t.cleanups, f)
}

// owns has c closed when the trial is over, and at once if the run is interrupted,
// so that nobody waits on it.
func (t *trial) owns(c io.Closer) {
	stop := context.AfterFunc(t.ctx, func() {
		if t.ctx.Err() == context.Canceled { // not that the trial has taken too long
			c.Close()
		}
	})
	t.later(func() {
		stop()
		c.Close()
	})
}

func (t *trial) cleanUp() {
	for len(t.cleanups) > 0 {
		last := len(t.cleanups) - 1
		f := t.cleanups[last]
		t.cleanups = t.cleanups[:last]
		f()
	}
}

// pace lets time pass, as the script has it.
func (t *trial) pace(d time.Duration) {
	if t.over() {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.ctx.Done():
		t.fail("a script that is done in time", "no time is left")
	}
}

func (t *trial) slack() time.Duration {
	if t.suite == nil {
		return 0
	}
	return t.suite.machine.slack
}

// await waits until something that cannot tell by itself is so, at most as long
// as given, and reports whether it came to be.
func (t *trial) await(within time.Duration, so func() bool) bool {
	ctx, cancel := context.WithTimeout(t.ctx, within)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return so()
		}
	}
	return true
}

// sideBySide runs n scripts at the same time.
func (t *trial) sideBySide(n int, script func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { script(i) })
	}
	wg.Wait()
}

// without is a prelude that takes capabilities(7) from a program, if it is run as
// root: no more than are asked about, since it may need the others to start.
func (t *trial) without(capabilities ...string) (prelude string) {
	if os.Getuid() != 0 {
		return ""
	}
	bounds := "--bounding-set=-" + strings.Join(capabilities, ",-")
	if err := exec.CommandContext(t.ctx, "setpriv", bounds, "true").Run(); err != nil {
		t.skip("nothing is forbidden to root, whose privileges cannot be taken away here: setpriv: " + err.Error())
	}
	return "exec setpriv " + bounds + ` "$@"; false`
}

// directory makes a fresh one.
func (t *trial) directory() string {
	t.mu.Lock()
	t.dirs++
	dir := filepath.Join(t.home, fmt.Sprintf("%d", t.dirs))
	t.mu.Unlock()
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.cannot("making a directory", err)
	}
	return dir
}

// put writes a file for the program to find.
func (t *trial) put(path string, p payload) {
	if t.over() {
		return
	}
	if err := p.writeFile(path); err != nil {
		t.cannot("making a file", err)
	}
}

// names lists a directory.
func (t *trial) names(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil && !t.over() {
		t.fail("a directory that can be read", "%v", err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names
}

// visible is without the hidden names.
func visible(names []string) (seen []string) {
	for _, n := range names {
		if !strings.HasPrefix(n, ".") {
			seen = append(seen, n)
		}
	}
	return seen
}
