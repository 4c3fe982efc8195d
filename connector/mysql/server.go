package mysql

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
)

// server is what is known of the server behind a session.
type server struct {
	id        string // server_uid or server_uuid, or its address where it has neither
	version   string
	maria     bool
	packet    int  // max_allowed_packet
	readOnly  bool // takes no writes
	cluster   bool // Galera
	statement bool // a binary log of statements
}

// look asks the server for its settings.
func (s *session) look(ctx context.Context) (server, error) {
	rows, err := s.query(ctx, `show variables where variable_name in ('version', 'server_uid', 'server_uuid', 'hostname', 'port',
 'max_allowed_packet', 'read_only', 'log_bin', 'binlog_format', 'wsrep_on')`)
	if err != nil {
		return server{}, err
	}
	v := map[string]string{}
	for _, r := range rows {
		v[r[0]] = r[1]
	}
	packet, err := strconv.Atoi(v["max_allowed_packet"])
	if err != nil {
		return server{}, fmt.Errorf("max_allowed_packet is %q: %w", v["max_allowed_packet"], err)
	}
	return server{
		id: cmp.Or(v["server_uid"], v["server_uuid"], v["hostname"]+":"+v["port"]), version: v["version"],
		maria: strings.Contains(v["version"], "MariaDB"), packet: packet, readOnly: v["read_only"] == "ON",
		cluster: v["wsrep_on"] == "ON", statement: v["log_bin"] == "ON" && v["binlog_format"] == "STATEMENT",
	}, nil
}

// tooOld says which version is needed if the server has an older one: the first in which what is prepared outlives its
// connection (MariaDB), or in which the server has the schema tables this sink asks (MySQL).
func (v server) tooOld() string {
	least, name := [3]int{8, 0, 0}, "MySQL 8.0"
	if v.maria {
		least, name = [3]int{10, 5, 2}, "MariaDB 10.5.2"
	}
	number, _, _ := strings.Cut(v.version, "-")
	for i, part := range strings.SplitN(number, ".", 3) {
		n, err := strconv.Atoi(part)
		if err != nil || n > least[i] {
			return ""
		}
		if n < least[i] {
			return name
		}
	}
	return ""
}
