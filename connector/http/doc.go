// Package httpsink sends records to a web service.
//
//	out := httpsink.Sink[Order]{
//		URL: "https://shop.example/orders",
//		ID:  func(o Order) string { return o.ID }, // sent as Idempotency-Key
//	}
//
// That posts each record as JSON, in a request of its own. Form puts many into one request, To gives records different URLs, Body
// and Encode write something else than JSON.
//
// # Guarantee
//
// A request that was cut off is sent again, and so is one that a restart repeats: whether the service had carried it out nobody knows.
// So the sink is at least once, and a start says so, unless the service can tell a repetition: by the key that ID gives a
// request, or by ids in the body or URL (Repeatable). Then the sink is [sink.Idempotent].
//
// Requests are on their way side by side and arrive in any order. Batching.Key orders the records of a key.
//
// # What an answer means
//
//	2xx                      done; with Answer as that says
//	408, 425, 429, 5xx       again, not before Retry-After; 429 also slows the sink down
//	400, 409, 413, 414,      the record is rejected, with the answer as the cause. A request with many records is halved
//	422, 431                 until those that are to blame are found, which are rejected; the rest is delivered
//	404, 410                 with To: the record is rejected
//	409                      with ID: again, as the first request with this key is still being carried out
//	401, 403, 407            the task fails: the credentials are wrong
//	all others               the task fails: the settings are wrong. Redirects are not followed
//
// No answer, half an answer, or none within Batching.Timeout: again. Rules changes what a status means.
//
// # Who owns what
//
// Each task's writer has connections of its own and closes them, unless Client is set. The functions are called by several
// goroutines at once, and again when a record is sent again. Nothing here starts a goroutine; package async and net/http do. Preflight
// takes 10 s at most.
//
// # What is counted
//
// Beside what package async counts: answers_2xx, answers_3xx, answers_4xx and answers_5xx, unanswered (requests without a whole
// answer), and bytes (of bodies, before compression).
package httpsink
