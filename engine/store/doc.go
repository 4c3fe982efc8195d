// Package store keeps the epochs of one job: the records that say where everything stood, the blobs of state they name,
// the slots that were granted to transactional sinks and the commits that are done.
//
//	d, err := store.Open("state", store.Options{Job: "orders"})
//	if err != nil {
//		return err // another copy runs, another job's state, damage: a fault.Error that says what to do
//	}
//	defer d.Close()
//	rec, err := d.Latest() // nil: there is nothing to resume from
//	n, err := d.NextEpoch()
//	w, err := d.Create(n, "count-0")
//	_, err = w.Write(state)
//	blob, err := w.Finish()
//	err = d.Publish(&store.Record{Epoch: n, Taken: time.Now(), KeyGroups: 128, Operators: ...})
//
// # Order of calls
//
// Open takes the claim, so one process at a time works on the state. Then Latest, or Fallback if Latest reports damage
// and the user allows it, then Pin for epochs that must outlive retention. For each epoch: NextEpoch once; Create, Write
// and Finish (or Abort) once for each blob, from any goroutine; and Publish, or Discard if the epoch was declined.
// Grant comes before the first use of a slot, Committed after a commit and before its slot is used again. Close is last.
//
// # What is promised
//
// An epoch is complete when Publish returns nil, and not before the pointer file CURRENT names it. Publish has three
// outcomes: nil; an error that is [ErrUnknown], after which the epoch must be neither announced nor given up until Latest
// says what is true; any other error, after which the epoch never happened. Whatever Latest, Granted and IsCommitted
// report is durable: it was synced before it is shown, also when an earlier process died before it could do so. Numbers
// of epochs are never handed out twice, but there may be gaps. What a record names was synced before the record, and
// stays until no retained record names it.
//
// # Ownership, goroutines, waiting
//
// All methods of a Dir may be called from any goroutine; a Writer and a Reader belong to one. Everything that writes or
// reads blobs and records waits for the disk; Granted, IsCommitted, Records and Pin don't. Publishes follow one another.
// Records that are given to or returned by the store are not kept by it, so the caller may change them afterwards.
//
// # Files
//
//	claim                          who holds the directory (locked)
//	CURRENT                        the pointer: newest complete epoch, and the older ones retained
//	numbers                        epoch numbers below this were perhaps handed out
//	grants, commits                append-only, one checksummed line for each call
//	epochs/<20 digits>.epoch       a record
//	epochs/<20 digits>/*.blob      its blobs
//
// CURRENT, numbers and records share one frame (magic, format version, length, xxhash64) that stays the same in every
// version, so a newer version is told from damage.
package store
