package main

import (
	"context"
	"fmt"
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
	dir     string
	brokers map[int]*testsvc.KafkaServer // by version of transactions
	broker  *testsvc.KafkaServer         // of them, that of the cell
	pg      *testsvc.PostgresServer
	maria   *testsvc.MariaDBServer
	redis   *testsvc.RedisServer
	objects *testsvc.S3Server
}

// kafka holds the input, and the output too. The broker is the cell's from now on.
func (s *services) kafka(ctx context.Context, version int) (*testsvc.KafkaServer, error) {
	if s.broker = s.brokers[version]; s.broker != nil {
		return s.broker, nil
	}
	k, err := testsvc.StartKafka(ctx, filepath.Join(s.dir, fmt.Sprint("kafka", version)), testsvc.KafkaOptions{Proxied: true, TransactionVersion: version})
	if err != nil {
		return nil, err
	}
	s.brokers[version], s.broker = k, k
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

func (s *services) s3(ctx context.Context) (_ *testsvc.S3Server, err error) {
	if s.objects == nil {
		s.objects, err = testsvc.StartS3(ctx, filepath.Join(s.dir, "s3"))
	}
	return s.objects, err
}

// kill ends them all; nobody reads their data again.
func (s *services) kill() {
	for _, k := range s.brokers {
		k.Kill()
	}
	if s.pg != nil {
		s.pg.Kill()
	}
	if s.maria != nil {
		s.maria.Kill()
	}
	if s.redis != nil {
		s.redis.Kill()
	}
	if s.objects != nil {
		s.objects.Kill()
	}
}
