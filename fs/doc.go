// Package fs is where payloads go: files that become visible whole or not at
// all.
//
// A [Store] keeps files in one directory. [Store.Create] begins a [Pending]
// file, under a hidden name beside the others; Commit makes it visible under its
// own name, and Abort removes it. There is no moment, and no crash, that leaves
// part of a file under its name: the data is synced before the rename, and the
// directory after it, before Commit returns. Commits that happen at the same
// time share the sync of the directory.
//
//	store, err := fs.OpenDir("/srv/uploads")
//	…
//	p, err := store.Create(ctx, "report.pdf")
//	…
//	defer p.Abort() // nothing, once it is committed
//	if _, err := io.Copy(p, upload); err != nil {
//		return err
//	}
//	return p.Commit()
//
// [OpenDir] is a directory of the disk, by way of renameio. [New] is one on any
// afero filesystem; on [NewMemory] it lets tests run without a disk. [Follow],
// by way of djherbis/stream, lets others read a file while it arrives.
//
// What a killed process leaves is removed by [Store.Sweep], which touches
// nothing that is not ours, and nothing that a live process is writing.
//
// The package has nothing to do with connections: package stage takes a Store as
// the sink of a chain.
package fs
