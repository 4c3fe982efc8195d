package testsvc

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
)

// shared are the servers of this test binary. Main owns them.
var shared struct {
	mu     sync.Mutex
	inMain bool
	kafka  *KafkaServer
	redis  *RedisServer
	s3     *S3Server
	pg     *PostgresServer
	maria  *MariaDBServer
	search *OpenSearchServer
	dirs   []string
}

// Main runs the tests, stops the shared servers, removes their data and returns the exit code for [os.Exit]. A test
// binary that uses [Kafka], [Redis], [S3], [Postgres], [MariaDB] or [OpenSearch] calls it from TestMain.
func Main(m *testing.M) int {
	shared.mu.Lock()
	shared.inMain = true
	shared.mu.Unlock()
	defer stopShared()
	return m.Run()
}

func stopShared() {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.kafka != nil {
		shared.kafka.Kill() // nobody reads its data again
	}
	if shared.redis != nil {
		shared.redis.Kill()
	}
	if shared.s3 != nil {
		shared.s3.Kill()
	}
	if shared.pg != nil {
		shared.pg.Kill()
	}
	if shared.maria != nil {
		shared.maria.Kill()
	}
	if shared.search != nil {
		shared.search.Kill()
	}
	for _, dir := range shared.dirs {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintf(os.Stderr, "testsvc: remove data of a shared server: %v\n", err)
		}
	}
	shared.kafka, shared.redis, shared.s3, shared.pg, shared.maria, shared.search = nil, nil, nil, nil, nil, nil
	shared.dirs, shared.inMain = nil, false
}

// Kafka returns the broker that the tests of this binary share, started at the first call. Leave it running, and use
// topics, groups and transactional ids of your own. The binary needs [Main].
func Kafka(t testing.TB) *KafkaServer {
	t.Helper()
	return share(t, &shared.kafka, func(dir string) (*KafkaServer, error) {
		return StartKafka(context.Background(), dir, KafkaOptions{})
	})
}

// Redis returns the server that the tests of this binary share, started at the first call. Leave it running, and use
// keys of your own. The binary needs [Main].
func Redis(t testing.TB) *RedisServer {
	t.Helper()
	return share(t, &shared.redis, func(dir string) (*RedisServer, error) {
		return StartRedis(context.Background(), dir, RedisOptions{})
	})
}

// S3 returns the object store that the tests of this binary share, started at the first call. Leave it running, and use
// prefixes of your own. The binary needs [Main].
func S3(t testing.TB) *S3Server {
	t.Helper()
	return share(t, &shared.s3, func(dir string) (*S3Server, error) { return StartS3(context.Background(), dir) })
}

// Postgres returns the server that the tests of this binary share, started at the first call. Leave it running, and use
// tables of your own. The binary needs [Main].
func Postgres(t testing.TB) *PostgresServer {
	t.Helper()
	return share(t, &shared.pg, func(dir string) (*PostgresServer, error) {
		return StartPostgres(context.Background(), dir, PostgresOptions{})
	})
}

// MariaDB returns the server that the tests of this binary share, started at the first call. Leave it running, and use
// tables of your own. The binary needs [Main].
func MariaDB(t testing.TB) *MariaDBServer {
	t.Helper()
	return share(t, &shared.maria, func(dir string) (*MariaDBServer, error) {
		return StartMariaDB(context.Background(), dir, MariaDBOptions{})
	})
}

// OpenSearch returns the node that the tests of this binary share, started at the first call. Leave it running, and use indices of
// your own. The binary needs [Main].
func OpenSearch(t testing.TB) *OpenSearchServer {
	t.Helper()
	return share(t, &shared.search, func(dir string) (*OpenSearchServer, error) {
		return StartOpenSearch(context.Background(), dir, OpenSearchOptions{})
	})
}

func share[S any](t testing.TB, server **S, start func(dir string) (*S, error)) *S {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if !shared.inMain {
		t.Fatal("shared servers need a TestMain that calls os.Exit(testsvc.Main(m)), which stops them")
	}
	if *server != nil {
		return *server
	}
	dir, err := os.MkdirTemp("", "weirline-test-")
	if err != nil {
		t.Fatal(err)
	}
	shared.dirs = append(shared.dirs, dir)
	s, err := start(dir)
	if err != nil {
		t.Fatal(err)
	}
	*server = s
	return s
}

// NewKafka starts a broker for this test alone and ends it, its data too, with the test.
func NewKafka(t testing.TB, o KafkaOptions) *KafkaServer {
	t.Helper()
	k, err := StartKafka(t.Context(), t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Kill)
	return k
}

// NewRedis starts a server for this test alone and ends it, its data too, with the test.
func NewRedis(t testing.TB, o RedisOptions) *RedisServer {
	t.Helper()
	r, err := StartRedis(t.Context(), t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Kill)
	return r
}

// NewS3 starts an object store for this test alone and ends it, its data too, with the test.
func NewS3(t testing.TB) *S3Server {
	t.Helper()
	s, err := StartS3(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

// NewPostgres starts a server for this test alone and ends it, its data too, with the test.
func NewPostgres(t testing.TB, o PostgresOptions) *PostgresServer {
	t.Helper()
	p, err := StartPostgres(t.Context(), t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// NewMariaDB starts a server for this test alone and ends it, its data too, with the test.
func NewMariaDB(t testing.TB, o MariaDBOptions) *MariaDBServer {
	t.Helper()
	m, err := StartMariaDB(t.Context(), t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Kill)
	return m
}

// NewOpenSearch starts a node for this test alone and ends it, its data too, with the test.
func NewOpenSearch(t testing.TB, o OpenSearchOptions) *OpenSearchServer {
	t.Helper()
	s, err := StartOpenSearch(t.Context(), t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

// Frozen stops a server from answering until the function it returns is called. Both report what goes wrong to t.
func Frozen(t testing.TB, s interface {
	Pause() error
	Resume() error
},
) (resume func()) {
	t.Helper()
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := s.Resume(); err != nil {
			t.Error(err)
		}
	}
}
