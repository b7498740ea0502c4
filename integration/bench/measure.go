package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// sample is one measurement.
type sample struct{ wall, cpu time.Duration }

// rounds measures each of n things in turn, so many times after a round to warm
// up, and returns the samples of each.
func rounds(count, n int, once func(i int) (sample, error)) ([][]sample, error) {
	samples := make([][]sample, n)
	for round := range count + 1 {
		for i := range n {
			s, err := once(i)
			if err != nil {
				return nil, err
			}
			if round > 0 {
				samples[i] = append(samples[i], s)
			}
		}
	}
	return samples, nil
}

// spread is the median of some figures, the smallest and the largest.
type spread struct{ median, min, max float64 }

func spreadOf(figures []float64) spread {
	s := slices.Sorted(slices.Values(figures))
	n := len(s)
	return spread{(s[(n-1)/2] + s[n/2]) / 2, s[0], s[n-1]}
}

// of is the spread of a figure of some samples.
func of(samples []sample, figure func(sample) float64) spread {
	figures := make([]float64, len(samples))
	for i, s := range samples {
		figures[i] = figure(s)
	}
	return spreadOf(figures)
}

// ratio is that of a figure of two things that were measured in turn: of the two
// samples of each round.
func ratio(a, b []sample, figure func(sample) float64) spread {
	figures := make([]float64, len(a))
	for i := range a {
		figures[i] = figure(a[i]) / figure(b[i])
	}
	return spreadOf(figures)
}

func (s spread) String() string { return fmt.Sprintf("%.3g (%.3g–%.3g)", s.median, s.min, s.max) }

// short is the median alone.
func (s spread) short() string { return fmt.Sprintf("%.2f", s.median) }

// table is one in Markdown.
type table struct {
	title  string
	notes  []string
	header []string
	rows   [][]string
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n", t.title)
	for _, note := range t.notes {
		fmt.Fprintf(&b, "%s\n\n", note)
	}
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(t.header)
	rule := make([]string, len(t.header))
	for i := range rule {
		rule[i] = "---:"
	}
	rule[0] = "---"
	line(rule)
	for _, row := range t.rows {
		line(row)
	}
	return b.String()
}
