// Package chain tests the chain that the program server has, of package stage over the
// stores of package fs, in the tests' own process: with a peer and a disk that do
// whatever a script of bytes says, and in time that only passes when all wait for it.
// The model that it is held to is README's "What is promised". There is nothing in it
// but tests.
package chain
