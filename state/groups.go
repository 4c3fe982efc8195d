package state

// Group is the key group, 0 to groups-1, of a key's hash. It uses the upper 32 bits of the hash; tables use the lower
// ones. It never changes for a given hash and number of groups.
func Group(h uint64, groups int) int {
	return int((h >> 32) * uint64(groups) >> 32)
}

// Range is the first and last key group that a task owns, both inclusive. The ranges of all tasks 0 to parallelism-1
// are disjoint and cover all groups. With more tasks than groups some own nothing: then last is first-1.
func Range(task, parallelism, groups int) (first, last int) {
	return task * groups / parallelism, (task+1)*groups/parallelism - 1
}

// Owner is the task whose Range has the group.
func Owner(group, parallelism, groups int) int {
	return ((group+1)*parallelism - 1) / groups
}
