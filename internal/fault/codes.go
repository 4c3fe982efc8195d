package fault

// The codes, by range: WL10xx building a pipeline, WL11xx starting and state, WL12xx reading, WL13xx writing and
// committing, WL14xx running, WL15xx command line and HTTP.
var (
	// Building.
	BadPipeline = add("WL1001", "the pipeline is built wrongly", "change the line named; nothing was started")
	BadType     = add("WL1002", "a type can't be used here", "use plain values: no pointers, interfaces, channels or functions where the message says so")

	// Starting and state.
	ClaimHeld     = add("WL1101", "another copy of the job holds the state directory", "stop the other copy, or give this one another -state")
	OtherJob      = add("WL1102", "the state belongs to another job", "give -state the directory of this job, or an empty one")
	NewerFormat   = add("WL1103", "the state was written by a newer version", "run the newer binary, or start from an older checkpoint with it")
	DamagedEpoch  = add("WL1104", "a checkpoint can't be read", "restore the files named, or start with -fallback to resume from the newest checkpoint that is whole; what was committed since will appear again")
	StateDir      = add("WL1105", "the state directory can't be used", "check that the directory exists, is writable and has room")
	DroppedState  = add("WL1106", "the checkpoint has state for an operator that the pipeline no longer has", "give the operator its old name, or the sink its old kind until all is delivered, or start with -allow-dropped to leave that state behind")
	BadState      = add("WL1107", "stored state doesn't fit the pipeline", "use the types the state was written with, or rename the state to begin anew")
	Parallelism   = add("WL1108", "the parallelism can't be used", "choose a parallelism between 1 and the number of key groups")
	Preflight     = add("WL1109", "a connector's check failed", "mend the setting named and start again")
	StoreFull     = add("WL1110", "the checkpoint store can't be written", "free disk space or mend permissions; the job goes on and retries")
	UncommittedOp = add("WL1111", "an operator that was removed has uncommitted transactions", "look at them with the command txn list; then, with a binary that still has the operator, finish them with txn commit -all, or run it once more")

	SavepointTaken = add("WL1112", "the place for a savepoint isn't empty", "give the savepoint an empty place, or one that doesn't exist yet; nothing was written")
	NoCheckpoint   = add("WL1113", "there is no such checkpoint or savepoint", "see what there is with the command checkpoint ls, and give the place of a whole savepoint")
	NewerThere     = add("WL1114", "the state has checkpoints that are newer", "start without -from to go on from the newest, or with -rewind if what was done since may be done again")
	UnknownName    = add("WL1115", "an operator's former name isn't in the checkpoint", "correct Config.Renamed; checkpoint show prints the names")
	NotRunning     = add("WL1116", "the job doesn't run", "start it, or give -state the directory of the one that runs")
	SavepointFails = add("WL1117", "a savepoint failed", "look at the cause; the job goes on, and what was written of the savepoint is removed")
	OtherBackend   = add("WL1118", "the checkpoint was made with another state backend", "start with the backend it was made with, take a savepoint, and resume from that with the other")

	Fenced   = add("WL1121", "another process has taken over the job's state", "leave the other process to it, or stop it and start this one again; nothing of this one was completed since")
	NoCreate = add("WL1122", "the object store overwrites where it should refuse", "use an object store with conditional writes (If-None-Match: *), or keep the state in a directory")

	// Reading.
	NoInput      = add("WL1201", "there is nothing to read", "check the path or pattern")
	Unreadable   = add("WL1202", "an input can't be read", "check that it exists and that this user may read it")
	BadRecord    = add("WL1203", "a record can't be used", "mend the input, or choose to skip poison records or send them to a dead letter sink")
	LineTooLong  = add("WL1204", "a line is longer than the limit", "raise the limit if such lines are expected")
	CutShort     = add("WL1205", "a compressed file ends too early", "replace the file by a whole copy")
	NoTopic      = add("WL1206", "the topic doesn't exist", "create the topic or correct its name")
	Unreachable  = add("WL1207", "a server can't be reached", "check the address and that the server is up")
	AuthFailed   = add("WL1208", "the server refused the credentials", "check user, password and mechanism")
	LostRange    = add("WL1209", "records were deleted before they were read", "raise the retention, or choose where to go on with the out-of-range policy")
	LostSplit    = add("WL1210", "a part of the input disappeared", "restore it, or choose to drop it with the deleted-partition policy")
	BadPosition  = add("WL1211", "a stored position can't be used", "check that the input is the one the checkpoint was made with")
	PoisonBudget = add("WL1212", "too many bad records", "look at the dead letters or the log, mend the input, or raise the budget")
	DeadLetters  = add("WL1213", "dead letters can't be read, or written again", "see the command dlq ls, and correct what is named; letters stay where they are until they were written again")

	// Writing and committing.
	SinkFailed    = add("WL1301", "the destination failed", "look at the cause; the job restarts from the last checkpoint")
	SinkRejected  = add("WL1302", "the destination refused a record", "mend the record's source, or choose to skip rejected records or send them to a dead letter sink")
	CommitFailed  = add("WL1303", "prepared work can't be committed", "look at the cause; nothing is given up, a restart tries again")
	NotIdempotent = add("WL1304", "a part of the pipeline can't give the guarantee asked for", "use sources that can be read again, a state directory, and two-phase or idempotent sinks, or don't ask for exactly once")
	LostCommit    = add("WL1305", "a prepared transaction was rolled back from outside, and its records are lost", "find out who rolled it back: somebody by hand, another job under the same name, or Kafka after Timeout; to go on without its records, choose to accept the loss in the sink's settings")
	UnknownCommit = add("WL1306", "nobody can say any more whether a transaction was committed", "look in the destination for its records; then choose to accept it in the sink's settings")

	// Running.
	UserPanic     = add("WL1401", "a user function panicked", "look at the stack; the job restarts from the last checkpoint")
	UserError     = add("WL1402", "a user function failed", "look at the cause; the job restarts from the last checkpoint")
	EpochTimeout  = add("WL1403", "a checkpoint took too long", "look at the operator that was last; raise the timeout or remove what is slow")
	EpochFailures = add("WL1404", "too many checkpoints failed in a row", "look at the causes; raise the tolerated failures if they are expected")
	GaveUp        = add("WL1405", "the restart strategy gave up", "mend the cause and start again; it resumes from the last checkpoint")
	Misplaced     = add("WL1406", "a split is in two places or in none", "this is a bug; please report it with the log")

	// Command line and HTTP.
	Usage     = add("WL1501", "the command line can't be understood", "see -help")
	PortTaken = add("WL1502", "the address is in use", "give -addr another address")
	NoSecret  = add("WL1503", "a secret is missing or can't be read", "set the environment variable named, to the value or to @file")
	HarmByTxn = add("WL1504", "what was asked of txn would lose records, or write some twice", "do what txn explain says; -force does it all the same")
)

var all []Code

func add(id, title, fix string) Code {
	c := Code{ID: id, Title: title, Fix: fix}
	all = append(all, c)
	return c
}

// All lists every code in the order of declaration.
func All() []Code { return append([]Code(nil), all...) }
