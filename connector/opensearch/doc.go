// Package opensearch writes records into OpenSearch or Elasticsearch, by requests to their _bulk.
//
//	out := opensearch.Sink[Product]{
//		URLs:  []string{"https://search:9200"},
//		Index: "products",
//		ID:    func(p Product) string { return p.SKU },
//	}
//
// That makes each record's JSON the document with its ID. Do says for each record by which action it is written instead: index,
// create, update, upsert or delete, and into which index.
//
// # Guarantee
//
// With ID the sink is [sink.Idempotent]: writing a record again sets the same document again. Records of one ID go in the order they were
// written. After a restart older records of an ID can come once more before the newest does, and are seen meanwhile; Action.Version
// keeps them out. Without ID the server makes an id for each document, a repetition makes another document, and the sink is at least once.
//
// # What an answer means
//
// Each record has its own result:
//
//	2xx                                     done
//	404 to a delete                         done: it is gone already
//	409 to a create with ID                 done: it is there already, by an earlier attempt as a rule
//	409 to an action with Version           done: the document is newer
//	409 to an update                        again: somebody else changed the document meanwhile
//	429, 5xx, an index that is read-only,   again: a condition of the server or the index, not the record's fault
//	closed, or can't be made now
//	404 as the sink's Index is gone         the task fails
//	403 as the user may not                 the task fails
//	any other                               the record is rejected, with the server's type and reason as the cause
//
// A request as a whole: 413 and 400 halve the batch until the records that are to blame are found; 429 slows the sink down; 5xx
// and no answer mean again, at the next of URLs; 401 and 403 fail the task.
//
// # Who owns what
//
// Each task's writer has connections of its own and closes them, unless Client is set. Do and ID are called by several goroutines at
// once, and again when a record is sent again. Nothing here starts a goroutine; package async and net/http do. Preflight takes 10 s at most.
//
// # What is counted
//
// Beside what package async counts: items_again and items_rejected (results of single records), bytes (of bodies, before
// compression), unanswered (requests without a whole answer) and hosts_left_out (how often one of URLs was left out for a while).
package opensearch
