// Package browser has the tests of the page at the admin address in a real Chromium. They
// have a module of their own, so that the library's requires nothing of them, and are
// skipped where no Chromium is installed:
//
//	make test-browser
//
// With -screenshot=FILE they also take the picture of it that is in the README.
package browser
