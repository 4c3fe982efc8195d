package main

import (
	"context"
	"path/filepath"

	"github.com/weirline/weirline/internal/testsvc"
)

// server is one that can be killed.
type server interface {
	Kill()
	Restart(ctx context.Context) error
}

// services are the real servers, each started when it is needed first.
type services struct {
	dir    string
	broker *testsvc.KafkaServer
	pg     *testsvc.PostgresServer
	maria  *testsvc.MariaDBServer
}

// kafka holds the input, and the output too.
func (s *services) kafka(ctx context.Context) (*testsvc.KafkaServer, error) {
	if s.broker != nil {
		return s.broker, nil
	}
	k, err := testsvc.StartKafka(ctx, filepath.Join(s.dir, "kafka"), testsvc.KafkaOptions{Proxied: true})
	if err != nil {
		return nil, err
	}
	s.broker = k
	return k, fill(ctx, k)
}

func (s *services) postgres(ctx context.Context) (_ *testsvc.PostgresServer, err error) {
	if s.pg == nil {
		s.pg, err = testsvc.StartPostgres(ctx, filepath.Join(s.dir, "postgres"), testsvc.PostgresOptions{})
	}
	return s.pg, err
}

func (s *services) mariadb(ctx context.Context) (_ *testsvc.MariaDBServer, err error) {
	if s.maria == nil {
		s.maria, err = testsvc.StartMariaDB(ctx, filepath.Join(s.dir, "mariadb"), testsvc.MariaDBOptions{})
	}
	return s.maria, err
}

// kill ends them all; nobody reads their data again.
func (s *services) kill() {
	if s.broker != nil {
		s.broker.Kill()
	}
	if s.pg != nil {
		s.pg.Kill()
	}
	if s.maria != nil {
		s.maria.Kill()
	}
}
