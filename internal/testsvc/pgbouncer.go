package testsvc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// poolerStartTimeout bounds one start.
const poolerStartTimeout = 30 * time.Second

// poolerConfig makes each transaction, not each client, have a session, one after another on few connections.
const poolerConfig = `[databases]
* = host=127.0.0.1 port=%d
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = trust
auth_file = %s
pool_mode = transaction
default_pool_size = %d
`

// NewPgBouncer starts a pooler before p that ends with the test. Clients share size sessions of the server, each for the length
// of a transaction. It returns where clients connect.
func NewPgBouncer(t testing.TB, p *PostgresServer, size int) string {
	t.Helper()
	for {
		port, err := freePort()
		if err != nil {
			t.Fatal(err)
		}
		proc, url, err := startPgBouncer(t, p.port, port, size)
		if err == nil {
			t.Cleanup(proc.kill)
			return url
		}
		if !errors.Is(err, errAddrInUse) {
			t.Fatal("start pgbouncer:", err)
		}
	}
}

func startPgBouncer(t testing.TB, server, port, size int) (*proc, string, error) {
	dir := t.TempDir()
	config, users := filepath.Join(dir, "pgbouncer.ini"), filepath.Join(dir, "users")
	err := errors.Join(os.WriteFile(config, fmt.Appendf(nil, poolerConfig, server, port, users, size), 0o644),
		os.WriteFile(users, []byte(`"test" ""`+"\n"), 0o644))
	if err != nil {
		return nil, "", err
	}
	bin, err := exec.LookPath("pgbouncer")
	if err != nil {
		bin = "/usr/sbin/pgbouncer" // where Debian puts it, which isn't in everybody's PATH
	}
	cmd := exec.Command(bin, config)
	if err := unprivileged(cmd, postgresUser, dir); err != nil {
		return nil, "", err
	}
	p, err := startCmd(filepath.Join(dir, "pgbouncer.log"), cmd)
	if err != nil {
		return nil, "", err
	}
	url := fmt.Sprintf("postgres://test@%s/postgres?sslmode=disable", hostPort(port))
	ctx, cancel := context.WithTimeout(t.Context(), poolerStartTimeout)
	defer cancel()
	if err := p.ready(ctx, func(ctx context.Context) error { return pingPgBouncer(ctx, url) }); err != nil {
		p.kill()
		return nil, "", err
	}
	return p, url, nil
}

// pingPgBouncer goes through to the server.
func pingPgBouncer(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.PgConn().Exec(ctx, "select 1").ReadAll()
	return err
}
