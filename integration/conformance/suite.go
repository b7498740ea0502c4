package conformance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"
)

// Suite is what to grade, and how.
type Suite struct {
	// Commands are the programs, as one would start them from a shell here, but
	// without what only a shell knows. At least one is needed. Words that name a
	// file here are made absolute, since the programs are run in directories of
	// their own.
	Commands map[Program]string

	// Only are patterns for [Select]; none means all criteria.
	Only []string

	// Timeout is how long one criterion may take: two minutes if it is 0.
	Timeout time.Duration

	// Parallel is how many criteria are tried at the same time. If it is 0 that
	// is twice the number of processors, beside one that is heavy and any number
	// of those that mostly wait.
	Parallel int

	// Progress, if not nil, is told each result as soon as it is there, by one
	// goroutine at a time.
	Progress func(Result)

	// Alone says that this process has no other children while the suite is
	// run. Then Run leaves none of the programs' children either, on Linux:
	// also those that have made themselves independent of their parents are
	// killed at the end.
	Alone bool

	machine *machine // to be shared by suites that are run side by side
}

// machine is what criteria that are tried at the same time have to share.
type machine struct {
	all          chan struct{} // nil if there is no bound on all of them
	light, heavy chan struct{}

	// slack is how much later than it should a program may be seen to do
	// something: none, unless the machine is known to be too busy to tell.
	slack time.Duration

	// starting is held by a program until it has started, or has ended. Some need
	// a processor for half a second until then, and others would make them late.
	starting chan struct{}
}

func newMachine(parallel int) *machine {
	m := &machine{
		light:    make(chan struct{}, cmp.Or(parallel, 2*runtime.NumCPU())),
		heavy:    make(chan struct{}, 1),
		starting: make(chan struct{}, min(runtime.NumCPU(), cmp.Or(parallel, runtime.NumCPU()))),
	}
	if parallel > 0 {
		m.all = make(chan struct{}, parallel)
	}
	return m
}

// places are what a criterion has to take before it is tried, in this order.
func (m *machine) places(l load) (all []chan struct{}) {
	switch l {
	case light:
		all = append(all, m.light)
	case heavy:
		all = append(all, m.heavy)
	}
	if m.all != nil {
		all = append(all, m.all)
	}
	return all
}

// run is a suite that is being run.
type run struct {
	Suite
	programs map[Program]command
	lab      lab
	starter  *thread // of the programs
	abort    context.CancelCauseFunc
}

// ErrNoPrograms is what Suite.Run returns if there is nothing to grade.
var ErrNoPrograms = errors.New("no program to grade")

// Run tries the criteria and reports. When ctx is done it ends what it has
// begun and returns the cause. Other errors are [ErrNoPrograms], [ErrCommand] and
// [ErrSelection], and those of a machine on which nothing can be tried at all.
func (s Suite) Run(ctx context.Context) (Report, error) {
	if errNotHere != nil {
		return Report{}, errNotHere
	}
	var programs []Program
	r := &run{Suite: s, programs: make(map[Program]command)}
	for _, p := range Programs {
		text, given := s.Commands[p]
		if !given {
			continue
		}
		c, err := parseCommand(text)
		if err != nil {
			return Report{}, fmt.Errorf("%s: %w", p, err)
		}
		programs = append(programs, p)
		r.programs[p] = c
	}
	if len(programs) == 0 {
		return Report{}, ErrNoPrograms
	}
	criteria, err := Select(programs, s.Only)
	if err != nil {
		return Report{}, err
	}
	dir, err := os.MkdirTemp("", "conform")
	if err != nil {
		return Report{}, fmt.Errorf("making a directory for what is temporary (TMPDIR says where): %w", err)
	}
	defer os.RemoveAll(dir)
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return Report{}, err
	}
	r.Timeout = cmp.Or(s.Timeout, 2*time.Minute)
	if r.machine == nil {
		r.machine = newMachine(s.Parallel)
	}
	if s.Alone {
		killRest, err := adopt()
		if err != nil {
			return Report{}, err
		}
		defer killRest()
	}
	if r.starter, err = newThread(nil); err != nil {
		return Report{}, err
	}
	defer r.starter.close()
	defer r.lab.close()

	ctx, r.abort = context.WithCancelCause(ctx)
	defer r.abort(nil)

	began := time.Now()
	results := r.all(ctx, criteria, dir)
	if err := context.Cause(ctx); err != nil {
		return Report{}, err
	}
	return newReport(s.Commands, results, time.Since(began)), nil
}

// all tries each criterion in a goroutine of its own. Who is late by less than what
// the others could be to blame for is tried again after them, alone.
func (r *run) all(ctx context.Context, criteria []Criterion, dir string) []Result {
	results := make([]Result, len(criteria))
	late := make([]bool, len(criteria))
	var work sync.WaitGroup
	var told sync.Mutex
	tell := func(result Result) {
		if r.Progress != nil && ctx.Err() == nil {
			told.Lock()
			defer told.Unlock()
			r.Progress(result)
		}
	}
	for i, c := range criteria {
		work.Go(func() {
			for _, place := range r.machine.places(c.load) {
				select {
				case place <- struct{}{}:
					defer func() { <-place }()
				case <-ctx.Done():
					return
				}
			}
			results[i], late[i] = r.try(ctx, c, filepath.Join(dir, fmt.Sprint(i)), r.machine.starting)
			if !late[i] {
				tell(results[i])
			}
		})
	}
	work.Wait()
	for i, c := range criteria {
		if late[i] && ctx.Err() == nil {
			results[i], _ = r.try(ctx, c, filepath.Join(dir, fmt.Sprint(i)), make(chan struct{}, 1))
			if results[i].Verdict == Pass {
				results[i].Note = "tried twice: it was late beside other criteria, and is not alone"
			}
			tell(results[i])
		}
	}
	return results
}

func (r *run) try(ctx context.Context, c Criterion, dir string, starting chan struct{}) (result Result, late bool) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	t := &trial{ctx: ctx, suite: r, program: c.Program, home: dir, starting: starting}
	t.tapes.start = time.Now()
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.cannot("making a directory", err)
	}
	c.try(t)
	t.cleanUp()
	took := time.Since(t.tapes.start)
	if err := os.RemoveAll(dir); err != nil {
		t.cannot("removing what was made", err)
	}
	result = Result{Criterion: c, Took: took, Verdict: Pass, Note: t.note}
	switch {
	case t.failure != nil:
		result.Verdict, result.Failure = Fail, t.failure
		result.Failure.Wire, result.Failure.Omitted = t.tapes.events()
		result.Failure.Stderr = t.said()
	case t.skipped != "":
		result.Verdict, result.Skipped = Skip, t.skipped
	case t.broken != "":
		result.Verdict, result.Error = Error, t.broken
	}
	return result, t.late && t.failure != nil
}
