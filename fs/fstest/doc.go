// Package fstest has filesystems for tests of what is to be safe on a disk: one that
// fails as it is told ([Faulty]), and one of which the power can be cut ([Crashing]).
// Both are afero filesystems, and know nothing of package fs:
//
//	afs := fstest.NewFaulty(afero.NewMemMapFs())
//	store, err := fs.New(afs, "/save")
//	…
//	afs.Fail(syscall.ENOSPC, 2, fstest.Write) // from now on, the second write
//	…
//	if n := afs.Handles(); n != 0 {
//		t.Errorf("%d files are still open", n)
//	}
//
// and, for every moment at which the power may have failed, and everything that a
// disk may hold then,
//
//	for crash := range crashing.Crashes(100, 1) {
//		got, err := afero.ReadFile(crash.Fs, "/save/1.file")
//		…
//	}
//
// The two can be put over each other.
//
// [TestStore] finds out whether a store, on whatever it stands, keeps the rules of those
// that stage.Save takes.
package fstest
