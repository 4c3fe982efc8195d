// Package testsvc starts real services, a Kafka broker, a Redis server, an object store (S3), a PostgreSQL, a MariaDB and an OpenSearch
// node, for tests, crash tests and benchmarks.
// Nothing but this project's own tests and tools imports it.
//
// A test that only needs a server shares one with the other tests of its binary:
//
//	func TestMain(m *testing.M) { os.Exit(testsvc.Main(m)) }
//
//	func TestSink(t *testing.T) {
//		k := testsvc.Kafka(t) // started by the first test that asks
//		if err := k.CreateTopic(t.Context(), "orders-"+t.Name(), 3); err != nil {
//			t.Fatal(err)
//		}
//		// ... connect to k.Addr
//	}
//
// The shared servers are for tests that leave them alone: use topic and key names of your own, never Kill, Pause or
// Stop them. A test that does takes a private server with [NewKafka], [NewRedis], [NewS3], [NewPostgres],
// [NewMariaDB] or [NewOpenSearch], which ends with the test; [NewPgBouncer] puts a pooler before a PostgreSQL,
// [NewRedisCluster] makes a cluster of three masters. Programs without a *testing.T use [StartKafka], [StartRedis], [StartS3],
// [StartPostgres], [StartMariaDB] and [StartOpenSearch] with a directory of their own and call Stop.
//
// Every server listens on 127.0.0.1 on free ports, keeps its data in its own directory and survives [KafkaServer.Kill]
// followed by [KafkaServer.Restart] with everything it acknowledged, at the same address. On Linux a server never
// outlives the process that started it, however that process ends. Only processes started here are ever signalled.
//
// [StartProxy] puts a bad network before any of them.
//
// What has to be installed is what `make deps` installs. A missing piece fails the test; it never skips it.
//
// The methods of one server may be called from several goroutines, but Kill, Restart and Stop of the same server are
// the caller's to order. Start, Restart and Stop block until the server answers or is gone: about 2 to 4 s for Kafka,
// 0.1 s for Redis, 3 s for a cluster of them, 0.5 s for the object store, 1 s for PostgreSQL and for MariaDB, 3 to 4 s for OpenSearch.
package testsvc
