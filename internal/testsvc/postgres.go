package testsvc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// postgresStartTimeout bounds one start.
	postgresStartTimeout = 60 * time.Second
	// postgresUser owns the data and the server's process where the tests run as root, which the server refuses to do.
	postgresUser = "postgres"
)

// PostgresOptions are the settings of one server. The zero value is a server that takes prepared transactions.
type PostgresOptions struct {
	// Prepared is max_prepared_transactions. Unset: 100. Negative: none, as servers are when they are installed.
	Prepared int
	// Sync makes the server wait for the disk. Unset: what is written survives Kill, but not a crash of the machine.
	Sync bool
	// Args are further command line arguments of postgres, such as "-c", "work_mem=1MB".
	Args []string
}

// PostgresServer is a PostgreSQL of its own with one superuser, test, who needs no password, and the database postgres.
type PostgresServer struct {
	// URL is where clients connect. It stays the same over Kill and Restart.
	URL string
	// Dir holds the data and postgres.log.
	Dir string

	o    PostgresOptions
	bin  string
	port int
	proc *proc
}

// StartPostgres starts a server with its data under dir, which is created if absent and isn't removed by Stop. Data of an
// earlier server in dir is used. It blocks until the server answers, ctx ends or 60 s have passed. ctx doesn't end the
// server: call Stop. Where the tests run as root, the server runs as user postgres, who gets dir.
func StartPostgres(ctx context.Context, dir string, o PostgresOptions) (*PostgresServer, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("start postgres: create directory: %w", err)
	}
	bin, err := postgresBin()
	if err != nil {
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	p := &PostgresServer{Dir: dir, o: o, bin: bin}
	if err := p.initdb(ctx); err != nil {
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	for {
		if p.port, err = freePort(); err != nil {
			return nil, fmt.Errorf("start postgres: %w", err)
		}
		p.URL = p.For("postgres")
		if err = p.Restart(ctx); err == nil {
			return p, nil
		}
		p.Kill()
		if !errors.Is(err, errAddrInUse) {
			return nil, fmt.Errorf("start postgres in %s: %w", dir, err)
		}
	}
}

// For is where clients connect to another database of the server.
func (p *PostgresServer) For(database string) string {
	return fmt.Sprintf("postgres://test@%s/%s?sslmode=disable", hostPort(p.port), database)
}

// postgresBin finds the newest server's programs, which Debian doesn't put into PATH.
func postgresBin() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return "", err
		}
		return filepath.Dir(path), nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", errors.New("initdb is neither in PATH nor under /usr/lib/postgresql; run `make deps` to install it")
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path)))) // 0 for what isn't a version
		return n
	}
	newest := slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })
	return filepath.Dir(newest), nil
}

func (p *PostgresServer) data() string { return filepath.Join(p.Dir, "data") }

// initdb makes the data directory, unless there is one.
func (p *PostgresServer) initdb(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(p.data(), "PG_VERSION")); err == nil {
		return nil
	}
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, "initdb"), "-D", p.data(), "-U", "test", "-A", "trust", "--no-sync",
		"-E", "UTF8", "--locale=C")
	cmd.Dir = p.Dir
	if err := unprivileged(cmd, postgresUser, p.Dir); err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w:\n%s", err, out)
	}
	return nil
}

// Kill ends the server as a crash would, at once and without a checkpoint, and returns when its processes are gone. Nothing
// happens if it has ended. What was committed or prepared survives.
func (p *PostgresServer) Kill() {
	if p.proc != nil {
		p.proc.stopBy(sigQuit) // SIGKILL would leave its children behind for a moment
	}
}

// Stop ends the server in an orderly way. Connections are broken, transactions rolled back.
func (p *PostgresServer) Stop() {
	if p.proc != nil {
		p.proc.stopBy(sigInt)
	}
}

// Restart starts the server again after Kill or Stop, with the same data and at the same address. It blocks until the
// server answers, ctx ends or 60 s have passed.
func (p *PostgresServer) Restart(ctx context.Context) error {
	prepared := p.o.Prepared
	if prepared == 0 {
		prepared = 100
	}
	args := []string{
		"-D", p.data(), "-p", strconv.Itoa(p.port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
		"-c", "max_connections=200", "-c", "shared_buffers=32MB",
		"-c", fmt.Sprint("max_prepared_transactions=", max(0, prepared)), "-c", fmt.Sprint("fsync=", p.o.Sync),
	}
	cmd := exec.Command(filepath.Join(p.bin, "postgres"), append(args, p.o.Args...)...)
	if err := unprivileged(cmd, postgresUser, p.Dir); err != nil {
		return fmt.Errorf("restart postgres: %w", err)
	}
	log := filepath.Join(p.Dir, "postgres.log")
	if err := os.Remove(log); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("restart postgres: %w", err)
	}
	proc, err := startCmd(log, cmd)
	if err != nil {
		return err
	}
	p.proc = proc
	ctx, cancel := context.WithTimeout(ctx, postgresStartTimeout)
	defer cancel()
	return p.proc.ready(ctx, p.ping)
}

// ping makes sure that it is this server that answers, not another one that was quicker to take the port.
func (p *PostgresServer) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, p.URL)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var data string
	if err := conn.QueryRow(ctx, "show data_directory").Scan(&data); err != nil {
		return err
	}
	if data != p.data() {
		return fmt.Errorf("another postgres answers at %s", hostPort(p.port))
	}
	return nil
}

// Exec runs statements, separated by semicolons, on a connection of its own.
func (p *PostgresServer) Exec(ctx context.Context, sql string) error {
	_, err := p.Query(ctx, sql)
	return err
}

// Query returns the rows of the last of the statements, each with its values as text, joined by tabs.
func (p *PostgresServer) Query(ctx context.Context, sql string) ([]string, error) {
	conn, err := pgx.Connect(ctx, p.URL)
	if err != nil {
		return nil, fmt.Errorf("connect to postgres: %w", err)
	}
	defer conn.Close(ctx)
	results, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	if err != nil || len(results) == 0 {
		return nil, err
	}
	var out []string
	for _, row := range results[len(results)-1].Rows {
		out = append(out, string(bytes.Join(row, []byte("\t"))))
	}
	return out, nil
}
