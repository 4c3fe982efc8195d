// Package durable keeps small files that survive crashes and tell damage from what was written: framed files that are
// replaced as a whole, journals that grow by lines, and the file system below both, which tests can put another in place of.
// It knows nothing of what the content means.
//
//	data, err := durable.Encode("myFILE1\n", 1, v)
//	err = durable.Replace(durable.OS, "dir/name", data) // the old content or the new, never a part
//	err = durable.OS.SyncDir("dir")                     // now it is the new one after any crash
//
//	data, err = durable.ReadFile(durable.OS, "dir/name")
//	err = durable.Decode("myFILE1\n", 1, data, &v) // ErrDamaged, or a *NewerError
//
// A [Journal] is Read once, then Rewrite and Settle put a clean file in the place of what was found, then Append adds a
// line at a time; each returns when the line is on the disk.
//
// Functions may be called from any goroutine, a Journal from one at a time. All of them wait for the disk.
package durable
