package testsvc

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

const (
	// mariadbStartTimeout bounds one start.
	mariadbStartTimeout = 60 * time.Second
	// mariadbUser owns the data and the server's process where the tests run as root.
	mariadbUser = "mysql"
)

// MariaDBOptions are the settings of one server. The zero value serves most tests.
type MariaDBOptions struct {
	// Sync makes the server wait for the disk. Unset: what is written survives Kill, but not a crash of the machine.
	Sync bool
	// Args are further command line arguments of mariadbd, such as "--max-allowed-packet=64K".
	Args []string
}

// MariaDBServer is a MariaDB of its own with one user, root, who needs no password, and the database test.
type MariaDBServer struct {
	// DSN is where clients connect. It stays the same over Kill and Restart.
	DSN string
	// Dir holds the data and mariadb.log.
	Dir string

	o    MariaDBOptions
	bin  string
	port int
	proc *proc
}

// StartMariaDB starts a server with its data under dir, which is created if absent and isn't removed by Stop. Data of an
// earlier server in dir is used. It blocks until the server answers, ctx ends or 60 s have passed. ctx doesn't end the
// server: call Stop. Where the tests run as root, the server runs as user mysql, who gets dir.
func StartMariaDB(ctx context.Context, dir string, o MariaDBOptions) (*MariaDBServer, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("start mariadb: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("start mariadb: create directory: %w", err)
	}
	bin, err := mariadbBin()
	if err != nil {
		return nil, fmt.Errorf("start mariadb: %w", err)
	}
	m := &MariaDBServer{Dir: dir, o: o, bin: bin}
	if err := m.install(ctx); err != nil {
		return nil, fmt.Errorf("start mariadb: %w", err)
	}
	for {
		if m.port, err = freePort(); err != nil {
			return nil, fmt.Errorf("start mariadb: %w", err)
		}
		m.DSN = m.For("root", "test")
		if err = m.Restart(ctx); err == nil {
			return m, nil
		}
		m.Kill()
		if !errors.Is(err, errAddrInUse) {
			return nil, fmt.Errorf("start mariadb in %s: %w", dir, err)
		}
	}
}

// For is where another user, without a password, connects to another database of the server; "" is none.
func (m *MariaDBServer) For(user, database string) string {
	return fmt.Sprintf("%s@tcp(%s)/%s", user, hostPort(m.port), database)
}

// mariadbBin finds the server's program, which may be outside the PATH of those who aren't root.
func mariadbBin() (string, error) {
	if path, err := exec.LookPath("mariadbd"); err == nil {
		return path, nil
	}
	const debian = "/usr/sbin/mariadbd"
	if _, err := os.Stat(debian); err != nil {
		return "", errors.New("mariadbd is neither in PATH nor in /usr/sbin; run `make deps` to install it")
	}
	return debian, nil
}

func (m *MariaDBServer) data() string { return filepath.Join(m.Dir, "data") }

// install makes the data directory, unless there is one.
func (m *MariaDBServer) install(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(m.data(), "mysql")); err == nil {
		return nil
	}
	cmd := exec.CommandContext(ctx, "mariadb-install-db", "--no-defaults", "--datadir="+m.data(),
		"--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve",
		"--innodb-flush-method=nosync", "--innodb-flush-log-at-trx-commit=0") // it takes a third of the time so
	cmd.Dir = m.Dir
	if err := unprivileged(cmd, mariadbUser, m.Dir); err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mariadb-install-db: %w:\n%s", err, out)
	}
	return nil
}

// Kill ends the server as a crash would, by SIGKILL, and returns when it is gone. Nothing happens if it has ended. What was
// committed or prepared survives.
func (m *MariaDBServer) Kill() {
	if m.proc != nil {
		m.proc.kill()
	}
}

// Stop ends the server in an orderly way. Connections are broken, transactions rolled back, those prepared kept.
func (m *MariaDBServer) Stop() {
	if m.proc != nil {
		m.proc.stop()
	}
}

// Restart starts the server again after Kill or Stop, with the same data and at the same address. It blocks until the
// server answers, ctx ends or 60 s have passed.
func (m *MariaDBServer) Restart(ctx context.Context) error {
	flush := 2 // the log is written at each commit, and synced once a second
	if m.o.Sync {
		flush = 1
	}
	args := []string{
		"--no-defaults", // must be the first; else the system's settings are read
		"--datadir=" + m.data(), "--bind-address=127.0.0.1", "--port=" + strconv.Itoa(m.port),
		"--socket=" + filepath.Join(m.Dir, "socket"), "--pid-file=" + filepath.Join(m.Dir, "pid"),
		"--skip-name-resolve", "--character-set-server=utf8mb4", "--innodb-buffer-pool-size=64M", "--max-connections=200",
		fmt.Sprint("--innodb-flush-log-at-trx-commit=", flush),
	}
	cmd := exec.Command(m.bin, append(args, m.o.Args...)...)
	if err := unprivileged(cmd, mariadbUser, m.Dir); err != nil {
		return fmt.Errorf("restart mariadb: %w", err)
	}
	log := filepath.Join(m.Dir, "mariadb.log")
	if err := os.Remove(log); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("restart mariadb: %w", err)
	}
	proc, err := startCmd(log, cmd)
	if err != nil {
		return err
	}
	m.proc = proc
	ctx, cancel := context.WithTimeout(ctx, mariadbStartTimeout)
	defer cancel()
	return m.proc.ready(ctx, m.ping)
}

// ping makes sure that it is this server that answers, not another one that was quicker to take the port.
func (m *MariaDBServer) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	db, err := connectMariaDB(m.For("root", ""))
	if err != nil {
		return err
	}
	defer db.Close()
	var data string
	if err := db.QueryRowContext(ctx, "select @@datadir").Scan(&data); err != nil {
		return err
	}
	if filepath.Clean(data) != m.data() {
		return fmt.Errorf("another mariadb answers at %s", hostPort(m.port))
	}
	_, err = db.ExecContext(ctx, "create database if not exists test")
	return err
}

// connectMariaDB keeps the driver from logging what is an error as well.
func connectMariaDB(dsn string) (*sql.DB, error) {
	c, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, err
	}
	c.MultiStatements, c.Logger = true, &mysql.NopLogger{}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// Exec runs statements, separated by semicolons, on a connection of its own.
func (m *MariaDBServer) Exec(ctx context.Context, statements string) error {
	db, err := connectMariaDB(m.DSN)
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, statements)
	return err
}

// Query returns the rows of one statement, each with its values as text, joined by tabs; NULL is "NULL".
func (m *MariaDBServer) Query(ctx context.Context, statement string) ([]string, error) {
	db, err := connectMariaDB(m.DSN)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, statement)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	values, into := make([]sql.NullString, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	var out []string
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		texts := make([]string, len(values))
		for i, v := range values {
			if texts[i] = v.String; !v.Valid {
				texts[i] = "NULL"
			}
		}
		out = append(out, strings.Join(texts, "\t"))
	}
	return out, rows.Err()
}
