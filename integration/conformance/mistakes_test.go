//go:build linux

package conformance

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// explain shows the failures among the criteria that are named.
func explain(report Report, names ...string) string {
	var b strings.Builder
	for _, r := range report.Results {
		if _, name, _ := strings.Cut(r.Name, "/"); r.Failure != nil && slices.Contains(names, name) {
			fmt.Fprintf(&b, "%s, %s\n%s", r.Name, r.Sentence, r.Failure.text())
		}
	}
	return b.String()
}

// expectAll fails the test for each criterion that does not hold, and for each
// that is skipped, but where that is for want of a right or a limit.
func expectAll(t *testing.T, s Suite) {
	t.Helper()
	failed, report := grade(t, s)
	if len(failed) > 0 {
		t.Error(explain(report, failed...))
	}
	for _, r := range report.Results {
		if r.Verdict == Skip && !strings.HasSuffix(r.Name, "-lossy-network") &&
			!strings.Contains(r.Name, "forbidden") && !strings.HasSuffix(r.Name, "/thousands-at-once") {
			t.Errorf("%s is skipped: %s", r.Name, r.Skipped)
		}
	}
}

// commands are our own programs.
func commands(dir string) map[Program]string {
	all := make(map[Program]string)
	for _, p := range Programs {
		all[p] = filepath.Join(dir, string(p))
	}
	return all
}

func TestTheProgramsConform(t *testing.T) {
	t.Parallel()
	expectAll(t, Suite{Commands: commands(racePrograms)})
}

// What has to do with a second, or half of one, is asked of the programs that users
// have, and with next to no slack: the race detector takes several times as long.
func TestTheProgramsAreInTime(t *testing.T) {
	m := newMachine(0)
	m.slack = 250 * time.Millisecond // other packages are tested meanwhile
	expectAll(t, Suite{Commands: commands(plainPrograms), machine: m, Only: []string{
		"incorrect-*", "port-in-use", "forbidden-port", "directory-*", "arguments-at-once",
		"stop*", "told-when-closed", "stdout-is-a-file", "wrong-bytes", "silence-exact",
	}})
}

// lighter are the criteria for a program that are about it more than about the
// machine, and that dozens of suites side by side can try. The others are tried on
// references without mistakes only, by `make test-kit`.
func lighter(p Program) (names []string) {
	for _, c := range Criteria() {
		if c.Program == p && c.load != long && (c.load != heavy || p == Client) {
			names = append(names, c.Name)
		}
	}
	return names
}

// A reference without mistakes conforms: to all criteria if this is exhaustive, and
// otherwise to the lighter ones.
func TestWithoutMistakesTheReferencesConform(t *testing.T) {
	if !*exhaustive { // which is more than there is room for beside dozens of others
		t.Parallel()
	}
	for _, p := range Programs {
		t.Run(string(p), func(t *testing.T) {
			t.Parallel()
			only := lighter(p)
			if *exhaustive {
				only = nil
			}
			expectAll(t, Suite{Commands: refer(p, ""), Only: only})
		})
	}
}

func matchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		match, err := path.Match(p, name)
		return match && err == nil
	})
}

var exhaustive = flag.Bool("exhaustive", false, "try mistakes by all criteria, not only by some that should hold beside those that should fail")

// samples are criteria that most mistakes have nothing to do with.
var samples = map[Program][]string{
	ServerS: {"sigint", "greets", "receives", "client-closes"},
	Server:  {"sigint", "greets", "receives", "client-closes"},
	Client:  {"refused", "sends", "waits-for-close", "server-closes-at-once"},
}

func TestEachMistakeFailsTheCriteriaThatNameIt(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		program Program
		mistake string
		fails   []string // of the sample, these, and those in holds
		holds   []string // more that do hold, being close to the mistake
		also    []string // patterns of more that may fail, since the mistake spoils those too
	}{
		{ServerS, "reads-greedily",
			[]string{"header-with-payload", "everything-at-once", "coalesced-network"},
			[]string{"header-byte-by-byte", "silence-restarts", "end-before-header"},
			[]string{"header-cut-anywhere", "*-slow-network", "*-lossy-network"}},
		{ServerS, "recv-is-a-message",
			[]string{"header-byte-by-byte", "header-cut-anywhere", "header-with-payload", "everything-at-once", "end-before-header"},
			[]string{"greets-once", "wrong-bytes"},
			[]string{"silence-restarts-in-header", "silence-exact", "coalesced-network", "*-slow-network", "*-lossy-network"}},
		{ServerS, "counts-the-header",
			[]string{"receives", "client-closes", "prints-plain-lines"},
			[]string{"wrong-bytes", "end-before-header"},
			[]string{"*"}},
		{ServerS, "drops-when-busy",
			[]string{"one-at-a-time", "500-bytes-at-once"},
			[]string{"receives-another"},
			[]string{"*"}},
		{ServerS, "keeps-its-output",
			[]string{"told-when-closed", "stdout-is-a-file", "stdout-gone"},
			[]string{"receives-another", "prints-plain-lines", "one-at-a-time"}, nil},
		{ServerS, "keeps-its-output-from-files",
			[]string{"stdout-is-a-file"},
			[]string{"told-when-closed", "prints-plain-lines", "stdout-gone"}, nil},
		{ServerS, "keeps-a-log",
			[]string{"stores-nothing"},
			[]string{"prints-plain-lines"}, nil},
		{ServerS, "waits-for-ever",
			[]string{"silence-at-start", "silence-after-confirmation", "silence-in-payload", "served-after-time-out", "silence-orderly-close", "restart"},
			[]string{"silence-restarts"},
			[]string{"silence-exact"}},
		{ServerS, "ten-seconds-in-all",
			[]string{"silence-restarts", "silence-restarts-in-header", "silence-exact"},
			[]string{"silence-in-payload", "served-after-time-out"},
			[]string{"waiting-is-not-silence", "*-lossy-network"}},
		{ServerS, "sigterm-is-failure",
			[]string{"sigterm", "stops-within-a-second"},
			[]string{"sigquit", "stop-leaves-error", "restart"}, nil},
		{ServerS, "leaves-a-child",
			[]string{"stop-ends-waiting", "restart"},
			[]string{"stops-within-a-second", "stop-tells-the-sender"}, nil},
		{ServerS, "greets-twice-at-once",
			[]string{"greets-once", "greetings-in-one-piece"},
			[]string{"end-before-header", "wrong-bytes", "header-byte-by-byte"}, nil},
		{ServerS, "waits-for-the-client",
			[]string{"greets", "greets-again", "receives", "client-closes"},
			nil,
			[]string{"*"}},
		{ServerS, "early-end-is-error",
			[]string{"end-before-header"},
			[]string{"empty-payload", "wrong-bytes"}, nil},
		{ServerS, "believes-any-header",
			[]string{"wrong-bytes"},
			[]string{"header-byte-by-byte", "everything-at-once"}, nil},
		{Server, "reads-greedily",
			[]string{"header-with-payload", "everything-at-once", "coalesced-network"},
			[]string{"header-byte-by-byte", "end-before-header"},
			[]string{"header-cut-anywhere", "*-slow-network", "*-lossy-network"}},
		{Server, "writes-straight",
			[]string{"appears-whole", "replaces-whole", "killed-leaves-no-part", "sweeps", "symbolic-link"},
			[]string{"leaves-nothing-else", "client-resets", "mode"},
			[]string{"whole-at-any-moment", "killed-while-it-saves"}}, // if it is slow enough to be seen
		{Server, "writes-in-two-halves",
			[]string{"whole-at-any-moment", "killed-while-it-saves", "symbolic-link"},
			[]string{"appears-whole", "replaces-whole", "killed-leaves-no-part", "told-when-closed"}, nil},
		{Server, "keeps-a-part",
			[]string{"silence-in-payload", "client-resets", "reset-on-the-way", "stop-leaves-error", "replaces-whole", "leaves-nothing-else", "cannot-store"},
			[]string{"appears-whole", "error-is-five-bytes", "wrong-bytes"}, nil},
		{Server, "ten-seconds-in-all",
			[]string{"silence-restarts", "silence-restarts-in-header"},
			[]string{"silence-in-payload"},
			[]string{"silence-exact", "*-lossy-network"}},
		{Server, "newline-after-error",
			[]string{"error-is-five-bytes"},
			[]string{"wrong-bytes", "client-resets"}, nil},
		{Server, "numbers-by-completion",
			[]string{"numbers-by-acceptance"},
			[]string{"failures-are-numbered"},
			[]string{"quick-beside-silent"}},
		{Server, "skips-failures",
			[]string{"failures-are-numbered", "client-resets"},
			[]string{"numbers-by-acceptance"},
			[]string{"served-after-time-out", "wrong-bytes", "leaves-nothing-else", "mode", "cannot-store", "quiet"}},
		{Server, "one-at-a-time",
			[]string{"ten-at-once", "numbers-by-acceptance"},
			[]string{"receives-another", "500-bytes-at-once"},
			[]string{"quick-beside-silent", "hundreds-at-once", "replaces-whole"}},
		{Server, "has-places-for-few",
			[]string{"thousands-at-once"},
			[]string{"hundreds-at-once"}, nil},
		{Server, "closes-before-saved",
			[]string{"told-when-closed"},
			[]string{"receives-another", "appears-whole"}, nil},
		{Server, "leaves-its-temporary-files",
			[]string{"leaves-nothing-else", "stop-leaves-error", "silence-in-payload", "client-resets"},
			[]string{"appears-whole", "sweeps"},
			[]string{"silence-at-start", "silence-after-confirmation"}},
		{Server, "leaves-what-the-silent-sent",
			[]string{"silence-at-start", "silence-after-confirmation", "silence-in-payload"},
			[]string{"leaves-nothing-else", "client-resets"}, nil},
		{Server, "waits-for-its-port",
			[]string{"restart"},
			[]string{"port-in-use"}, nil},
		{Server, "shows-its-temporary-files",
			[]string{"appears-whole", "killed-leaves-no-part", "sweeps"},
			[]string{"leaves-nothing-else", "replaces-whole"}, nil},
		{Server, "private-mode",
			[]string{"mode"},
			[]string{"symbolic-link"}, nil},
		{Server, "translates-line-ends",
			[]string{"binary-payload", "payload-like-header", "ten-at-once"},
			[]string{"empty-payload"},
			[]string{"header-cut-anywhere", "told-when-closed", "appears-whole", "replaces-whole", "whole-at-any-moment", "killed-while-it-saves", "leaves-nothing-else", "mode", "1-mib-*", "10-mib-lossy-network"}},
		{Server, "has-children-hold-it-all",
			[]string{"memory"},
			[]string{"empty-payload", "1-mib-in-a-row"},
			[]string{"cannot-store"}}, // the child, too, is not to write so much
		{Server, "finds-out-too-late",
			[]string{"directory-forbidden"},
			[]string{"directory-unusable", "directory-created"}, nil},
		{Server, "dies-of-sigquit",
			[]string{"sigquit", "stops-within-a-second", "stop-leaves-error"},
			[]string{"sigterm"}, nil},
		{Server, "stops-orderly",
			[]string{"stop-tells-the-sender"},
			[]string{"stop-leaves-error", "stops-within-a-second"}, nil},
		{Server, "resets-the-silent",
			[]string{"silence-orderly-close"},
			[]string{"silence-in-payload"}, nil},
		{Server, "listens-on-loopback",
			[]string{"listens-everywhere"},
			nil,
			[]string{"*-lossy-network"}},
		{Client, "sends-before-the-greeting",
			[]string{"waits-for-greeting"},
			[]string{"waits-for-second-greeting", "header"}, nil},
		{Client, "confirms-twice-at-once",
			[]string{"waits-for-second-greeting"},
			[]string{"waits-for-greeting", "header"}, nil},
		{Client, "trusts-one-recv",
			[]string{"greeting-in-pieces", "greeting-drips"},
			[]string{"waits-for-greeting", "wrong-greeting"},
			[]string{"*-slow-network"}},
		{Client, "forgets-the-blank-line",
			[]string{"header", "sends", "waits-for-close"},
			nil,
			[]string{"*"}},
		{Client, "a-reset-is-success",
			[]string{"reset-at-end", "failure-complaint"},
			[]string{"server-resets-in-payload", "closes-too-early"},
			[]string{"reset-on-the-way"}},
		{Client, "does-not-look-while-sending",
			[]string{"closes-too-early"},
			[]string{"server-resets-in-payload", "reset-at-end"}, nil},
		{Client, "closes-at-once",
			[]string{"waits-for-close", "reset-at-end", "close-time-out", "failure-complaint"},
			[]string{"empty-file"}, nil},
		{Client, "connects-for-ever",
			[]string{"connect-time-out"},
			[]string{"greeting-time-out"}, nil},
		{Client, "has-ten-seconds-for-each-byte",
			[]string{"greeting-drips"},
			[]string{"greeting-time-out", "second-greeting-time-out", "greeting-in-pieces"}, nil},
		{Client, "waits-for-ever",
			[]string{"greeting-time-out", "second-greeting-time-out", "greeting-drips"},
			[]string{"close-time-out"}, nil},
		{Client, "is-impatient",
			[]string{"connect-time-out", "greeting-time-out", "second-greeting-time-out", "greeting-drips", "payload-time-out", "close-time-out", "patience"},
			nil,
			[]string{"slow-*", "*-network"}},
		{Client, "leaves-much-to-the-system",
			[]string{"slow-end"},
			[]string{"slow-server", "payload-time-out"}, nil},
		{Client, "ignores-what-is-too-much",
			[]string{"arguments-at-once"},
			[]string{"incorrect-arguments"}, nil},
		{Client, "takes-what-is-missing-for-empty",
			[]string{"unreadable-file", "forbidden-file", "complaint", "complaint-names"},
			[]string{"refused", "unknown-host"}, nil},
		{Client, "complains-vaguely",
			[]string{"complaint-names"},
			[]string{"complaint"}, nil},
		{Client, "ignores-signals",
			[]string{"stops-within-a-second", "stop-is-no-end"},
			[]string{"abort-is-no-end"}, nil},
		{Client, "leaves-signals-to-the-system",
			[]string{"stop-is-no-end", "stops-within-a-second"}, // after SIGQUIT, Go's runtime is verbose
			[]string{"abort-is-no-end"}, nil},
		{Client, "leaves-sigquit-to-the-system",
			[]string{"stop-is-no-end", "stops-within-a-second"},
			[]string{"abort-is-no-end"}, nil},
		{Client, "aborts-in-order",
			[]string{"stop-is-no-end", "abort-is-no-end"},
			[]string{"stops-within-a-second", "payload-time-out"}, nil},
		{Client, "sends-for-ever",
			[]string{"payload-time-out", "abort-is-no-end"},
			[]string{"close-time-out"}, nil},
		{Client, "awaits-the-close-for-ever",
			[]string{"close-time-out"},
			[]string{"greeting-time-out"}, nil},
		{Client, "adds-a-newline",
			[]string{"sends", "binary-file", "empty-file", "waits-for-close"},
			[]string{"header"},
			[]string{"*"}},
		{Client, "reads-it-all",
			[]string{"memory"},
			[]string{"1-mib"}, nil},
		{Client, "knows-no-standard-input",
			[]string{"standard-input"},
			[]string{"unreadable-file"}, nil},
		{Client, "believes-any-greeting",
			[]string{"wrong-greeting"},
			[]string{"greeting-in-pieces"}, nil},
	} {
		t.Run(string(tt.program)+"/"+tt.mistake, func(t *testing.T) {
			t.Parallel()
			var only []string
			for _, name := range slices.Concat(samples[tt.program], tt.fails, tt.holds) {
				only = append(only, string(tt.program)+"/"+name)
			}
			if *exhaustive {
				only = append(only, lighter(tt.program)...)
			}
			failed, report := grade(t, Suite{Commands: refer(tt.program, tt.mistake), Only: only})
			for _, name := range tt.fails {
				if !slices.Contains(failed, name) {
					t.Errorf("%s holds", name)
				}
			}
			for _, name := range failed {
				if !slices.Contains(tt.fails, name) && !(*exhaustive && matchesAny(tt.also, name)) {
					t.Errorf("%s fails too\n%s", name, explain(report, name))
				}
			}
		})
	}
}

func TestARunThatIsInterruptedSaysSo(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	s := Suite{Commands: refer(ServerS, ""), Only: []string{"greets", "silence-in-payload"}}
	var interrupted time.Time
	s.Progress = func(Result) {
		interrupted = time.Now()
		cancel(enough)
	}
	if _, err := s.Run(ctx); !errors.Is(err, enough) {
		t.Errorf("error %v", err)
	}
	if took := time.Since(interrupted); took > silence/2 {
		t.Errorf("it went on for %v", took)
	}
}
