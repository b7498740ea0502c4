// Package fs stores payloads as files that become visible complete or not at all.
//
// A [Store] keeps files in one directory. [Store.Create] begins a [Pending] file under a
// hidden name. Commit makes it visible under its own name, and Abort removes it:
//
//	store, err := fs.OpenDir("/srv/uploads")
//	…
//	p, err := store.Create(ctx, "report.pdf")
//	…
//	defer p.Abort() // does nothing after a commit
//	if _, err := io.Copy(p, upload); err != nil {
//		return err
//	}
//	return p.Commit()
//
// At no moment, and after no crash, is a part of a file visible. Commit syncs the data,
// renames the file and syncs the directory. Commits at the same time share the sync of the
// directory, and on ext4 and XFS many small files are synced in groups. [WithDurability]
// trades durability for speed, and [NoReplace] keeps files that exist.
//
// [OpenDir] opens a directory of the disk, by renameio. [New] opens one on any afero
// filesystem: [NewMemory] for tests without a disk, or package fstest for tests with a
// disk that fails or loses power. [Store.Sweep] removes the pending files of a killed
// process.
//
// Package follow reads files while they arrive, and package appendlog appends records to
// files. Package stage takes a Store as the sink of a chain; this package knows nothing of
// connections.
//
// Errors wrap the filesystem's errors, and name the file. Stores are safe for
// concurrent use.
package fs
