// Package redis writes records to a Redis server or a cluster.
//
//	out := redis.Sink[Count]{
//		Addr:   "localhost:6379",
//		Prefix: "shop:",
//		Do: func(v Count, c *redis.Cmds) error {
//			c.HSet("page:"+v.Page, "views", v.Views, "visitors", v.Visitors)
//			c.Expire("page:"+v.Page, 24*time.Hour)
//			return nil
//		},
//	}
//
// # Guarantee
//
// Each command sets something to a value the record determines, so writing a record again has the effect of writing it
// once: the sink is [sink.Idempotent]. Records go in the order they were written, one pipeline on its way at a time. To
// have several, set Batching.Key to a function that gives records which write the same Redis key the same name; order is
// then kept for each name. A batch repeated after a timeout can meet its own late first execution inside a server that was
// frozen meanwhile; both set the same values.
//
// Commands that add to what is there (INCRBY, RPUSH, XADD under an id of the server's) would count twice: they are for
// [MarkedSink], which is at least once, and exactly once behind a write-ahead sink (package ahead). A list set as a whole
// ([Cmds.SetList]) and an entry of a stream under an id made of the record ([Cmds.XAddID]) may be repeated.
//
// A record's commands aren't a transaction: one that is refused may have been executed in part.
//
// # What happens when
//
// A server that is away, loading, read-only for the moment or out of memory is waited for, however long; what waits is
// stored with each epoch. A command the server refuses for another reason (WRONGTYPE, say) makes its record a rejected
// one with the server's answer as the cause. Refused credentials fail the task.
//
// # Who owns what
//
// Each task's writer has its own connections and closes them. Do is called by several goroutines at once and must not keep
// the Cmds. No goroutine is started here; package async and the client library start theirs. Preflight takes 10 s at most.
// The client library prints each refused connection by a logger of its own, common to the whole process; a binary that
// doesn't want these lines calls the library's SetLogger.
//
// # Clusters
//
// With Addrs the client library finds the node of each key, also when keys move or a node fails over. Each node is a shard of
// package async: while one is down, the records of the others keep flowing. Without Addrs Addr is one server, or leads to
// the present master.
package redis
