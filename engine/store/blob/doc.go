// Package blob keeps the epochs of a job in an object store: S3 and what speaks its protocol, or a directory that behaves
// like one. A binary links it only if its main passes it in:
//
//	cfg := engine.Config{Name: "orders", Store: blob.At("s3://bucket/orders?region=eu-central-1")}
//
// or, for a place that isn't known before, such as that of a savepoint:
//
//	s, err := blob.Open(location, store.Options{Job: "orders"})
//
// # What is stored
//
//	log/<20 digits>                            the sequence of entries, each created only if absent
//	run/<claim>/<epoch>/record                 a record
//	run/<claim>/<epoch>/b-<name>.blob          its blobs
//
// Nothing is ever overwritten. Every claim, complete epoch, grant, commit and reservation of epoch numbers is an entry of
// the one sequence, and whoever opens the store takes the next number for its claim. So the create of an older owner
// meets a number that is taken: it is fenced, for ever, and whatever it did since never happened. An entry carries all that
// is small (retained epochs, grants, who wrote it), so the last one alone says what is true; only the list of commits is
// spread over the entries since the newest one that has all of it, at most 32. Older entries are deleted.
//
// Because entries are deleted, a create that succeeds proves nothing by itself: an owner that was paused for long may
// create a number that was taken and deleted meanwhile. So each create is followed by a look for later entries, which are
// there in that case: the newest entry is never deleted.
//
// # Taking over
//
// Without locks a second copy can't be told from a restart after a crash. Taking over always wins; the older owner, should
// it still live, ends with fault.Fenced when it next writes an entry. Open warns with host, process and age of the older
// claim unless that was given back by Close.
//
// # Order of calls, ownership, waiting
//
// As in package store. Everything but Granted, IsCommitted, Records, Pin and Discard waits for the network. Requests are
// repeated by the client; a create whose outcome stays unknown is created again with the same content before anything
// else is, which is harmless however often it arrives.
package blob
