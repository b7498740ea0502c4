// Package integration tests the programs from outside: it builds them, starts
// them as a user would, and talks to them over TCP. It knows the protocol and
// what the programs promise, and nothing of how they are made. There is nothing
// in it but tests and examples.
//
// Each test starts programs of its own, on a free port and in a directory of
// its own, and in the end sees to it that they leave as they should: by a
// signal, at once, with exit code 0, without a word on standard error, and with
// exactly the files in the directory that were to be there. The programs are
// built twice: with the race detector, which most tests use, and as users have
// them, for the tests of what they take of memory, time and descriptors.
//
// The programs are tested on Linux only, since the tests look at them through
// /proc.
package integration
