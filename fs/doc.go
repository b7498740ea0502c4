// Package fs is where payloads go: files that become visible whole or not at
// all.
//
// A [Store] keeps files in one directory. [Store.Create] begins a [Pending]
// file, under a hidden name beside the others; Commit makes it visible under its
// own name, and Abort removes it. There is no moment, and no crash, that leaves
// part of a file under its name: the data is synced before the rename, and the
// directory after it, before Commit returns. Commits that happen at the same
// time share the sync of the directory and, if they are many, small files on ext4 and XFS
// are synced in batches. A Store for which less will do is told so by
// [WithDurability]; one that is to replace nothing, by [NoReplace].
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
// afero filesystem; on [NewMemory] it lets tests run without a disk, and on those of
// package fstest with one that fails, or loses its power.
//
// [Follow], by way of djherbis/stream, lets others read a file while it arrives: guests,
// who come and go ([Follower.Open]), and consumers, who read every file and may
// have a say in whether it is committed ([WithConsumer]): a checksum, an index, a scanner.
//
// A pending file can be given another name until it is committed, so that the name may
// be made of what it holds. With NoReplace that is a store addressed by content: what is
// there already is an os.ErrExist.
//
// Names are plain: what begins with a dot, or has a separator in it, is an [ErrName]. An
// error is that of the filesystem, for errors.Is, with what was being done to which
// file. Stores and Followers are safe for concurrent use, a Pending is for one goroutine
// at a time.
//
// [Append] is for what is no file of its own: each payload becomes a line of a file that
// only grows, as a log.
//
// What a killed process leaves is removed by [Store.Sweep], which touches
// nothing that is not ours, and nothing that a live process is writing.
//
// The package has nothing to do with connections: package stage takes a Store as
// the sink of a chain.
package fs
