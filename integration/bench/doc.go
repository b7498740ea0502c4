// Command bench measures the programs of this module beside their peers: raw
// loops of system calls, which nothing can beat, servers as people write them, in
// Go and in Python, and whole tools. It prints tables in Markdown.
//
// All are measured in the same run, in turn, after a round to warm up: the ratio
// of two figures of one round says something on a machine that is busy, too. A
// ratio is the median of those of all rounds.
package main
