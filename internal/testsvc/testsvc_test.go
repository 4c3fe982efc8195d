package testsvc_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/weirline/weirline/internal/testsvc"
)

func TestMain(m *testing.M) { os.Exit(testsvc.Main(m)) }

func values(rs []*kgo.Record) []string {
	var vs []string
	for _, r := range rs {
		vs = append(vs, string(r.Value))
	}
	return vs
}

// wantTopic fails unless the topic's committed values are exactly these.
func wantTopic(t *testing.T, k *testsvc.KafkaServer, topic string, want ...string) {
	t.Helper()
	rs, err := k.ReadAll(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	if got := values(rs); !slices.Equal(got, want) {
		t.Fatalf("topic %s holds %q, want %q", topic, got, want)
	}
}

func TestKafkaSharedServesRecords(t *testing.T) {
	k := testsvc.Kafka(t)
	if again := testsvc.Kafka(t); again != k {
		t.Fatal("second call gave another broker")
	}
	if err := k.CreateTopic(t.Context(), "plain", 2); err != nil {
		t.Fatal(err)
	}
	if err := k.CreateTopic(t.Context(), "plain", 2); !errors.Is(err, kerr.TopicAlreadyExists) {
		t.Fatalf("second creation: %v, want topic already exists", err)
	}
	wantTopic(t, k, "plain")
	if err := k.Produce(t.Context(), "plain", 1, "b", "c"); err != nil {
		t.Fatal(err)
	}
	if err := k.Produce(t.Context(), "plain", 0, "a"); err != nil {
		t.Fatal(err)
	}
	wantTopic(t, k, "plain", "a", "b", "c")
	if err := k.Produce(t.Context(), "absent", 0, "x"); err == nil {
		t.Fatal("produce to a topic that doesn't exist succeeded")
	}
}

func TestKafkaReadAllLeavesOutUncommitted(t *testing.T) {
	k := testsvc.Kafka(t)
	if err := k.CreateTopic(t.Context(), "txn", 1); err != nil {
		t.Fatal(err)
	}
	cl, err := k.Client(kgo.TransactionalID("txn-writer"), kgo.DefaultProduceTopic("txn"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	write := func(v string) {
		t.Helper()
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := cl.ProduceSync(t.Context(), kgo.StringRecord(v)).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	end := func(how kgo.TransactionEndTry) {
		t.Helper()
		if err := cl.EndTransaction(t.Context(), how); err != nil {
			t.Fatal(err)
		}
	}
	write("aborted")
	wantTopic(t, k, "txn")
	end(kgo.TryAbort)
	write("committed")
	end(kgo.TryCommit)
	// The markers are written after the answer; a plain record behind them is visible only when they are there.
	if err := k.Produce(t.Context(), "txn", 0, "after"); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		rs, err := k.ReadAll(t.Context(), "txn")
		if err != nil {
			t.Fatal(err)
		}
		if got := values(rs); slices.Equal(got, []string{"committed", "after"}) {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("topic holds %q, want committed and after", got)
		}
	}
}

// TestKafkaReadAllComesToItsEnd: the last thing whose fate is known was rolled back, by a mark behind an open transaction.
func TestKafkaReadAllComesToItsEnd(t *testing.T) {
	k := testsvc.Kafka(t)
	if err := k.CreateTopic(t.Context(), "mark", 1); err != nil {
		t.Fatal(err)
	}
	var cls [2]*kgo.Client
	for i := range cls {
		cl, err := k.Client(kgo.TransactionalID(fmt.Sprint("mark-", i)), kgo.DefaultProduceTopic("mark"))
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		if err := errors.Join(cl.BeginTransaction(), cl.ProduceSync(t.Context(), kgo.StringRecord(fmt.Sprint(i))).FirstErr()); err != nil {
			t.Fatal(err)
		}
		cls[i] = cl
	}
	if err := cls[0].EndTransaction(t.Context(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	stable := int64(0)
	for stable < 1 { // the mark is written after the answer
		ends, err := kadm.NewClient(cls[0]).ListCommittedOffsets(t.Context(), "mark")
		if err != nil {
			t.Fatal(err)
		}
		stable = ends["mark"][0].Offset
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if rs, err := k.ReadAll(ctx, "mark"); err != nil || len(rs) > 0 {
		t.Fatalf("topic holds %q, %v; want nothing", values(rs), err)
	}
	if err := cls[1].EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
}

func TestKafkaKeepsRecordsOverKill(t *testing.T) {
	k := testsvc.NewKafka(t, testsvc.KafkaOptions{})
	if err := k.CreateTopic(t.Context(), "kept", 1); err != nil {
		t.Fatal(err)
	}
	if err := k.Produce(t.Context(), "kept", 0, "one"); err != nil {
		t.Fatal(err)
	}
	addr := k.Addr
	k.Kill()
	k.Kill() // a second one does nothing
	if err := k.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if k.Addr != addr {
		t.Fatalf("address changed from %s to %s", addr, k.Addr)
	}
	if err := k.Produce(t.Context(), "kept", 0, "two"); err != nil {
		t.Fatal(err)
	}
	wantTopic(t, k, "kept", "one", "two")
}

func TestKafkaWithPassword(t *testing.T) {
	k := testsvc.NewKafka(t, testsvc.KafkaOptions{User: "ann", Password: "pw 1"})
	login := map[string]func(pass string) sasl.Mechanism{
		"plain": func(p string) sasl.Mechanism { return plain.Auth{User: "ann", Pass: p}.AsMechanism() },
		"scram": func(p string) sasl.Mechanism { return scram.Auth{User: "ann", Pass: p}.AsSha256Mechanism() },
	}
	for name, mech := range login {
		for pass, ok := range map[string]bool{"pw 1": true, "wrong": false} {
			cl, err := kgo.NewClient(kgo.SeedBrokers(k.SASLAddr), kgo.SASL(mech(pass)), kgo.RequestRetries(0))
			if err != nil {
				t.Fatal(err)
			}
			if err := cl.Ping(t.Context()); (err == nil) != ok {
				t.Errorf("%s with password %q: %v, want success %v", name, pass, err, ok)
			}
			cl.Close()
		}
	}
}

func TestRedisKeepsWritesOverKill(t *testing.T) {
	r := testsvc.NewRedis(t, testsvc.RedisOptions{})
	cl := r.Client()
	defer cl.Close()
	if err := cl.Set(t.Context(), "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	r.Kill()
	if err := cl.Get(t.Context(), "key").Err(); err == nil {
		t.Fatal("a killed server answered")
	}
	if err := r.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v, err := cl.Get(t.Context(), "key").Result(); err != nil || v != "value" {
		t.Fatalf("after the restart: %q, %v", v, err)
	}
}

func TestRedisSharedIsOneServer(t *testing.T) {
	r := testsvc.Redis(t)
	if again := testsvc.Redis(t); again != r {
		t.Fatal("second call gave another server")
	}
	cl := r.Client()
	defer cl.Close()
	if err := cl.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestRedisPause(t *testing.T) {
	r := testsvc.NewRedis(t, testsvc.RedisOptions{Password: "secret"})
	impatient := redis.NewClient(&redis.Options{
		Addr: r.Addr, Password: "secret", MaxRetries: -1, ReadTimeout: 100 * time.Millisecond,
	})
	defer impatient.Close()
	if err := impatient.Set(t.Context(), "k", "1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := r.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := impatient.Get(t.Context(), "k").Err(); err == nil {
		t.Fatal("a paused server answered")
	}
	if err := r.Resume(); err != nil {
		t.Fatal(err)
	}
	cl := r.Client()
	defer cl.Close()
	if v, err := cl.Get(t.Context(), "k").Result(); err != nil || v != "1" {
		t.Fatalf("after resume: %q, %v", v, err)
	}
}

func TestRedisWantsPassword(t *testing.T) {
	r := testsvc.NewRedis(t, testsvc.RedisOptions{Password: "secret"})
	cl := redis.NewClient(&redis.Options{Addr: r.Addr})
	defer cl.Close()
	if err := cl.Ping(t.Context()).Err(); err == nil || !strings.Contains(err.Error(), "NOAUTH") {
		t.Fatalf("ping without password: %v, want NOAUTH", err)
	}
}

func TestRedisClusterGoesOnWithoutANode(t *testing.T) {
	c := testsvc.NewRedisCluster(t)
	cl := c.Client()
	defer cl.Close()
	keys := []string{"a", "b", "c"} // slots 15495, 3300 and 7365: one on each node
	for _, k := range keys {
		if err := cl.Set(t.Context(), k, "1", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	c.Nodes[1].Kill()
	if err := errors.Join(cl.Set(t.Context(), "a", "2", 0).Err(), cl.Set(t.Context(), "b", "2", 0).Err()); err != nil {
		t.Fatal(err)
	}
	if err := cl.Set(t.Context(), "c", "2", 0).Err(); err == nil {
		t.Fatal("a killed node took a key")
	}
	if err := errors.Join(c.Nodes[1].Restart(t.Context()), c.Ready(t.Context())); err != nil {
		t.Fatal(err)
	}
	if got, err := cl.Get(t.Context(), "c").Result(); err != nil || got != "1" {
		t.Fatalf("after the restart: %q, %v", got, err)
	}
}

func TestStartKafkaNamesWhatIsMissing(t *testing.T) {
	t.Setenv("WEIRLINE_CACHE", filepath.Join(t.TempDir(), "empty"))
	_, err := testsvc.StartKafka(t.Context(), t.TempDir(), testsvc.KafkaOptions{})
	if err == nil || !strings.Contains(err.Error(), "make deps") {
		t.Fatalf("start without the jars: %v, want a hint at make deps", err)
	}
}

func TestStartRedisShowsTheLog(t *testing.T) {
	_, err := testsvc.StartRedis(t.Context(), t.TempDir(), testsvc.RedisOptions{Args: []string{"--maxmemory", "many"}})
	if err == nil || !strings.Contains(err.Error(), "maxmemory") {
		t.Fatalf("start with a bad option: %v, want the server's own words", err)
	}
}

func TestPostgresKeepsTransactionsOverKill(t *testing.T) {
	p := testsvc.NewPostgres(t, testsvc.PostgresOptions{Sync: true})
	for _, sql := range []string{"create table t (n int); insert into t values (1)", "begin; insert into t values (2); prepare transaction 'two'"} {
		if err := p.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	url := p.URL
	p.Kill()
	p.Kill() // a second one does nothing
	if _, err := p.Query(t.Context(), "select 1"); err == nil {
		t.Fatal("a killed server answered")
	}
	if err := p.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p.URL != url {
		t.Errorf("the address changed from %s to %s", url, p.URL)
	}
	if got, err := p.Query(t.Context(), "select n from t"); err != nil || !slices.Equal(got, []string{"1"}) {
		t.Errorf("after the restart: %q, %v", got, err)
	}
	if got, err := p.Query(t.Context(), "commit prepared 'two'; select n, n is null from t"); err == nil {
		t.Errorf("commit prepared among other statements: %q, want an error", got)
	}
	if err := p.Exec(t.Context(), "commit prepared 'two'"); err != nil {
		t.Fatal(err)
	}
	p.Stop()
	if err := p.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Query(t.Context(), "select n, n is null from t"); err != nil || !slices.Equal(got, []string{"1\tf", "2\tf"}) {
		t.Errorf("after the commit: %q, %v", got, err)
	}
}

func TestPostgresSharedIsOneServer(t *testing.T) {
	p := testsvc.Postgres(t)
	if again := testsvc.Postgres(t); again != p {
		t.Fatal("second call gave another server")
	}
	if got, err := p.Query(t.Context(), "show max_prepared_transactions"); err != nil || !slices.Equal(got, []string{"100"}) {
		t.Errorf("max_prepared_transactions: %q, %v", got, err)
	}
}

func TestPostgresWithoutPreparedTransactions(t *testing.T) {
	p := testsvc.NewPostgres(t, testsvc.PostgresOptions{Prepared: -1})
	if err := p.Exec(t.Context(), "begin; prepare transaction 'x'"); err == nil || !strings.Contains(err.Error(), "disabled") {
		t.Errorf("prepare transaction: %v, want a refusal", err)
	}
}

func TestStartPostgresShowsTheLog(t *testing.T) {
	_, err := testsvc.StartPostgres(t.Context(), t.TempDir(), testsvc.PostgresOptions{Args: []string{"-c", "work_mem=many"}})
	if err == nil || !strings.Contains(err.Error(), "work_mem") {
		t.Fatalf("start with a bad option: %v, want the server's own words", err)
	}
}

func TestMariaDBKeepsTransactionsOverKill(t *testing.T) {
	m := testsvc.NewMariaDB(t, testsvc.MariaDBOptions{Sync: true})
	for _, sql := range []string{"create table t (n int); insert into t values (1)", "xa start 'two'; insert into t values (2), (null); xa end 'two'; xa prepare 'two'"} {
		if err := m.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	dsn := m.DSN
	m.Kill()
	m.Kill() // a second one does nothing
	if _, err := m.Query(t.Context(), "select 1"); err == nil {
		t.Fatal("a killed server answered")
	}
	if err := m.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m.DSN != dsn {
		t.Errorf("the address changed from %s to %s", dsn, m.DSN)
	}
	if got, err := m.Query(t.Context(), "select n from t"); err != nil || !slices.Equal(got, []string{"1"}) {
		t.Errorf("after the restart: %q, %v", got, err)
	}
	if err := m.Exec(t.Context(), "xa commit 'two'"); err != nil {
		t.Fatal(err)
	}
	m.Stop()
	if err := m.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := m.Query(t.Context(), "select n, n is null from t"); err != nil || !slices.Equal(got, []string{"1\t0", "2\t0", "NULL\t1"}) {
		t.Errorf("after the commit: %q, %v", got, err)
	}
}

func TestMariaDBSharedIsOneServer(t *testing.T) {
	m := testsvc.MariaDB(t)
	if again := testsvc.MariaDB(t); again != m {
		t.Fatal("second call gave another server")
	}
	if got, err := m.Query(t.Context(), "select user(), database()"); err != nil || !slices.Equal(got, []string{"root@127.0.0.1\ttest"}) {
		t.Errorf("user and database: %q, %v", got, err)
	}
}

func TestStartMariaDBShowsTheLog(t *testing.T) {
	_, err := testsvc.StartMariaDB(t.Context(), t.TempDir(), testsvc.MariaDBOptions{Args: []string{"--no-such-option"}})
	if err == nil || !strings.Contains(err.Error(), "no-such-option") {
		t.Fatalf("start with a bad option: %v, want the server's own words", err)
	}
}

// Two clients share the one session, a transaction each.
func TestPgBouncerSharesSessions(t *testing.T) {
	p := testsvc.NewPostgres(t, testsvc.PostgresOptions{})
	url := testsvc.NewPgBouncer(t, p, 1)
	var pids [2]string
	for i := range pids {
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		got, err := conn.PgConn().Exec(t.Context(), "select pg_backend_pid()").ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		pids[i] = string(got[0].Rows[0][0])
	}
	if pids[0] != pids[1] {
		t.Errorf("sessions %q, want the same", pids)
	}
}
