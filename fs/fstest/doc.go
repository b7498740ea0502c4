// Package fstest has filesystems and a test suite for stores of files.
//
// A [Faulty] fails as a test asks for:
//
//	faulty := fstest.NewFaulty(afero.NewMemMapFs())
//	store, err := fs.New(faulty.Fs(), "/save")
//	…
//	faulty.Fail(syscall.ENOSPC, 2, "write") // the second write from now on
//	…
//	if n := faulty.Handles(); n != 0 {
//		t.Errorf("%d files are still open", n)
//	}
//
// A [Crashing] loses power. Check each state that may be left on the disk:
//
//	for step, afs := range crashing.Crashes(100, 1) {
//		got, err := afero.ReadFile(afs, "/save/1.file")
//		…
//	}
//
// Both are afero filesystems, and can be put over each other. [TestStore] tests that a store
// of any kind keeps the rules of stage.Save.
package fstest
