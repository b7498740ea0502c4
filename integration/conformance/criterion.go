package conformance

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// Program is one of the programs that can be graded.
type Program string

// The programs, in the order of a report.
const (
	ServerS Program = "server-s"
	Server  Program = "server"
	Client  Program = "client"
)

// Programs is all of them.
var Programs = []Program{ServerS, Server, Client}

// Criterion is one thing that is asked of a program.
type Criterion struct {
	// Name is the program, a slash and a few words with hyphens. It stays the
	// same from one version of the kit to the next.
	Name string `json:"name"`

	Program  Program `json:"program"`
	Group    string  `json:"group"`
	Sentence string  `json:"sentence"`

	// Weight is what the criterion counts in the score, 1 or more.
	Weight int `json:"weight"`

	// Required says that a program that fails it does not speak the protocol
	// or does not do its work.
	Required bool `json:"required"`

	load load
	try  func(*trial)
}

// load is what trying a criterion costs this machine; see Suite.Run.
type load int

const (
	light load = iota // processes and a few bytes
	idle              // mostly waits
	long              // waits, for most of a minute, for a bad network
	heavy             // moves so much that it wants the machine for itself
)

// ErrSelection is what [Select] returns if a pattern makes no sense or matches
// nothing.
var ErrSelection = errors.New("no such criterion")

// Select returns the criteria of the programs whose names match one of the
// patterns of [path.Match], or all if there are none, without those that match a
// pattern after an exclamation mark. A pattern without a slash is for all programs.
func Select(programs []Program, patterns []string) ([]Criterion, error) {
	var all []Criterion
	for _, c := range Criteria() {
		if slices.Contains(programs, c.Program) {
			all = append(all, c)
		}
	}
	chosen, excluded, some := make(map[string]bool), make(map[string]bool), false
	for _, p := range patterns {
		marked := chosen
		p, not := strings.CutPrefix(p, "!")
		if not {
			marked = excluded
		}
		some = some || !not
		if !strings.Contains(p, "/") {
			p = "*/" + p
		}
		found := false
		for _, c := range all {
			match, err := path.Match(p, c.Name)
			if err != nil {
				return nil, fmt.Errorf("%w: %q: %w", ErrSelection, p, err)
			}
			if match {
				marked[c.Name], found = true, true
			}
		}
		if !found {
			return nil, fmt.Errorf("%w: nothing matches %q; --list shows their names", ErrSelection, p)
		}
	}
	return slices.DeleteFunc(all, func(c Criterion) bool { return some && !chosen[c.Name] || excluded[c.Name] }), nil
}

// Criteria returns all criteria, in the order of a report.
func Criteria() []Criterion {
	var all []Criterion
	for _, p := range []Program{ServerS, Server} {
		all = append(all, named(p, serverCriteria(p))...)
	}
	return append(all, named(Client, clientCriteria())...)
}

// section is criteria of one group, without what is the same for all of them.
type section struct {
	group    string
	criteria []Criterion
}

func named(p Program, sections []section) (all []Criterion) {
	for _, s := range sections {
		for _, c := range s.criteria {
			c.Program, c.Group, c.Name = p, s.group, string(p)+"/"+c.Name
			all = append(all, c)
		}
	}
	return all
}

// WriteList writes what is asked, for reading.
func WriteList(w io.Writer, criteria []Criterion) error {
	var b strings.Builder
	group := ""
	for _, c := range criteria {
		if g := string(c.Program) + ": " + c.Group; g != group {
			group = g
			fmt.Fprintf(&b, "%s\n", g)
		}
		fmt.Fprintf(&b, "  %-40s %2d %-9s %s\n", c.Name, c.Weight, kind(c.Required), c.Sentence)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteMarkdown writes what is asked as a table.
func WriteMarkdown(w io.Writer, criteria []Criterion) error {
	var b strings.Builder
	b.WriteString("| criterion | weight | | asks |\n|---|---|---|---|\n")
	for _, c := range criteria {
		fmt.Fprintf(&b, "| `%s` | %d | %s | %s |\n", c.Name, c.Weight, kind(c.Required), c.Sentence)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func kind(required bool) string {
	if required {
		return "required"
	}
	return "robust"
}
