package testsvc

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	clusterNodes   = 3
	clusterTimeout = 30 * time.Second
	clusterSlots   = 16384
)

// RedisCluster is three masters without replicas that share the slots in equal ranges. While one is down the others go on
// with theirs.
type RedisCluster struct{ Nodes []*RedisServer }

// StartRedisCluster starts the nodes with their data under dir and makes a cluster of them. It blocks until each of them says
// that the cluster works, ctx ends or 30 s have passed.
func StartRedisCluster(ctx context.Context, dir string) (_ *RedisCluster, err error) {
	c := &RedisCluster{}
	defer func() {
		if err != nil {
			c.Kill()
		}
	}()
	buses := make([]string, clusterNodes)
	for i := range clusterNodes {
		bus, err := freePort() // by default it would be another port plus 10,000, which may be taken or too high
		if err != nil {
			return nil, fmt.Errorf("start redis cluster: %w", err)
		}
		buses[i] = strconv.Itoa(bus)
		r, err := StartRedis(ctx, filepath.Join(dir, strconv.Itoa(i)), RedisOptions{Args: []string{
			"--cluster-enabled", "yes", "--cluster-port", buses[i], "--cluster-node-timeout", "1000",
			"--cluster-require-full-coverage", "no",
		}})
		if err != nil {
			return nil, err
		}
		c.Nodes = append(c.Nodes, r)
	}
	ctx, cancel := context.WithTimeout(ctx, clusterTimeout)
	defer cancel()
	if err := c.join(ctx, buses); err != nil {
		return nil, fmt.Errorf("make redis cluster: %w", err)
	}
	return c, c.Ready(ctx)
}

// join gives each node its slots and has them meet.
func (c *RedisCluster) join(ctx context.Context, buses []string) error {
	for i, r := range c.Nodes {
		cl := r.Client()
		defer cl.Close()
		from, to := i*clusterSlots/clusterNodes, (i+1)*clusterSlots/clusterNodes-1
		err := errors.Join(
			cl.Do(ctx, "cluster", "addslotsrange", from, to).Err(),
			cl.Do(ctx, "cluster", "set-config-epoch", i+1).Err(),
		)
		for j := 0; j < i && err == nil; j++ {
			host, port, _ := strings.Cut(c.Nodes[j].Addr, ":")
			err = cl.Do(ctx, "cluster", "meet", host, port, buses[j]).Err()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Ready waits until each node that runs knows all nodes and says that the cluster works.
func (c *RedisCluster) Ready(ctx context.Context) error {
	for _, r := range c.Nodes {
		cl := r.Client()
		defer cl.Close()
		err := r.proc.ready(ctx, func(ctx context.Context) error {
			info, err := cl.ClusterInfo(ctx).Result()
			if err == nil && !(strings.Contains(info, "cluster_state:ok") && strings.Contains(info, fmt.Sprintf("cluster_slots_ok:%d\r", clusterSlots))) {
				err = fmt.Errorf("node %s says %q", r.Addr, info)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("redis cluster: %w", err)
		}
	}
	return nil
}

// Addrs are the nodes', host:port.
func (c *RedisCluster) Addrs() (addrs []string) {
	for _, r := range c.Nodes {
		addrs = append(addrs, r.Addr)
	}
	return addrs
}

// Client connects a go-redis client to the cluster. The caller closes it.
func (c *RedisCluster) Client() *redis.ClusterClient {
	return redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs()})
}

// Kill ends all nodes as a crash would.
func (c *RedisCluster) Kill() {
	for _, r := range c.Nodes {
		r.Kill()
	}
}

// NewRedisCluster starts a cluster for this test alone and ends it, its data too, with the test.
func NewRedisCluster(t testing.TB) *RedisCluster {
	t.Helper()
	c, err := StartRedisCluster(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	return c
}
