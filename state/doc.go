// Package state holds what a keyed operator remembers: typed handles on values, maps, lists, window panes and timers per
// key, the byte forms they are stored in, and the tables in memory that they live in.
//
// A user declares handles once, in Open, and uses them for the current key:
//
//	func (c *count) Open(s *engine.Setup) error {
//		c.sum = state.NewValue[int64](s, "sum")
//		return s.Err()
//	}
//	...
//	*c.sum.Ref() += amount
//
// # Who calls what, in which order
//
// The engine makes one [Scope] per task of a keyed operator with [NewScope]; it calls [Scope.Restore] once for each old
// file whose key groups overlap, then the operator's Open, which declares the handles, then looks at [Scope.Err] and
// [Scope.Unclaimed]. For each batch it hashes the keys ([Key.HashAll]), calls [Scope.Tick] with the time (it has done so once
// before Restore too) and [Scope.Warm], and for each record [Scope.SetKey] before the user's code runs.
//
// At a barrier it calls [Scope.Capture], which only marks what there is; after each batch [Scope.Sweep] until that
// reports done; then [Scope.Captured] gives a [Snapshot] that another goroutine writes ([Snapshot.WriteTo]) and releases.
// What the user's code is about to change is copied before it changes, so the snapshot is the state at the barrier.
//
// # Ownership
//
// A task's goroutine owns its Scope and all handles: nothing here is locked and nothing blocks. Only a Snapshot may go
// to another goroutine; it shares no memory with the tables. A pointer into state (Ref, At) is good until the next call
// of any handle, SetKey or Sweep. Values without pointers, maps and slices inside are captured by copying pages and
// encoded by the goroutine that writes; all others are encoded on the task's goroutine just before they are handed out.
//
// # Key groups
//
// A key belongs to one of a fixed number of key groups by its hash ([Group]); a task owns a range of them ([Range]).
// Files have one section per state and group, so a job can be restored with another parallelism.
package state
