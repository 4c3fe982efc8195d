package redis

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/weirline/weirline/internal/fault"
)

const (
	slots         = 16384
	layoutTimeout = time.Second // for each node asked
	redirects     = 3           // in one call of Send: moved, asked, and one that fails
	rangeSlots    = slots / 8   // of a shard, when nobody says which node has what
)

func (s Sink[T]) clustered() bool { return len(s.Addrs) > 0 }

// clusterClient follows keys that move. It minds the time limit of package async on its own too, for it also asks for the
// layout in the background.
func (s Sink[T]) clusterClient() *goredis.ClusterClient {
	limit := s.Batching.Timeout
	if limit == 0 {
		limit = 30 * time.Second
	}
	return goredis.NewClusterClient(&goredis.ClusterOptions{
		Addrs: s.Addrs, Username: s.Username, Password: s.Password, TLSConfig: s.TLS,
		MaxRedirects: redirects, DialerRetries: 1, DialTimeout: dialTimeout,
		ReadTimeout: max(limit, -1), WriteTimeout: max(limit, -1), ContextTimeoutEnabled: true,
		PoolSize: cmp.Or(s.Batching.MaxInFlight, 16), DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// layout is which node had which slots when the writer was made. It isn't renewed: a slot that moves goes on in the batches of
// the node it was on, which costs that slot its independence and nothing else.
type layout struct {
	nodes []string // their addresses; never changed
	of    [slots]uint16
}

// layout asks the first node that answers; nil if this isn't a cluster, or needn't be known. If none answers, eight
// equal ranges stand for the nodes.
func (s Sink[T]) layout(ctx context.Context) *layout {
	if !s.clustered() || s.Batching.Shard != nil {
		return nil
	}
	found, err := s.clusterSlots(ctx, layoutTimeout)
	if err != nil {
		l := &layout{}
		for i := range slots / rangeSlots {
			l.add("slots "+string(rune('a'+i)), i*rangeSlots, (i+1)*rangeSlots-1)
		}
		return l
	}
	l := &layout{nodes: []string{""}} // slots that nobody has
	for _, r := range found {
		if len(r.Nodes) > 0 {
			l.add(r.Nodes[0].Addr, r.Start, r.End)
		}
	}
	return l
}

func (l *layout) add(node string, from, to int) {
	n := 0
	for n < len(l.nodes) && l.nodes[n] != node {
		n++
	}
	if n == len(l.nodes) {
		l.nodes = append(l.nodes, node)
	}
	for i := from; i <= to && i < slots; i++ {
		l.of[i] = uint16(n)
	}
}

// nodeOf is the node that has a key; "" if there is none.
func (l *layout) nodeOf(key string) string {
	if key == "" {
		return ""
	}
	return l.nodes[l.of[slotOf(key)]]
}

// firstKey is the key of a record's first command. What is wrong with the record is found again when it is sent.
func (s Sink[T]) firstKey(v T) string {
	c := &Cmds{prefix: s.Prefix, keyOnly: true}
	_ = s.Do(v, c)
	return c.key
}

// clusterSlots asks one node after the other, by connections of its own.
func (s Sink[T]) clusterSlots(ctx context.Context, each time.Duration) ([]goredis.ClusterSlot, error) {
	var errs []error
	for _, addr := range s.Addrs {
		one := s
		one.Addr, one.Addrs = addr, nil
		found, err := one.slotsHere(ctx, each)
		if err == nil {
			return found, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func (s Sink[T]) slotsHere(ctx context.Context, limit time.Duration) ([]goredis.ClusterSlot, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	client := s.client()
	defer client.Close()
	defer closeOnCancel(ctx, client)()
	return client.ClusterSlots(ctx).Result()
}

// clusterPreflight looks whether a node answers, and whether somebody has each slot. Single nodes may be down: their records
// wait.
func (s Sink[T]) clusterPreflight(ctx context.Context) error {
	found, err := s.clusterSlots(ctx, preflightLimit/time.Duration(len(s.Addrs)+1))
	switch {
	case err != nil && alone(err):
		return s.notCluster(err)
	case err != nil:
		return s.refused(err)
	}
	had := 0
	for _, r := range found {
		had += r.End - r.Start + 1
	}
	if had < slots {
		return fault.New(fault.Preflight, "redis cluster %s: %d of %d slots belong to no node", s.addr(), slots-had, slots).
			WithFix("give them to nodes (redis-cli --cluster fix)")
	}
	return nil
}

// alone says whether the server isn't part of a cluster.
func alone(err error) bool { return strings.Contains(err.Error(), "cluster support disabled") }

func (s Sink[T]) notCluster(err error) error {
	return fault.Wrap(fault.Preflight, err, "redis server %s isn't part of a cluster", s.addr()).
		WithFix("set Addr instead of Addrs")
}

// tag is the part of a key in braces, which alone decides on its slot; "" if it has none.
func tag(key string) string {
	_, rest, _ := strings.Cut(key, "{")
	in, _, closed := strings.Cut(rest, "}")
	if !closed {
		return ""
	}
	return in
}

// slotOf is the slot of a key.
func slotOf(key string) int {
	key = cmp.Or(tag(key), key)
	var crc uint16
	for i := range len(key) {
		crc = crc<<8 ^ crcTable[byte(crc>>8)^key[i]]
	}
	return int(crc % slots)
}

// crcTable is that of the CRC with the polynomial 0x1021.
var crcTable = func() (t [256]uint16) {
	for i := range t {
		c := uint16(i) << 8
		for range 8 {
			carry := c >> 15
			c = c<<1 ^ carry*0x1021
		}
		t[i] = c
	}
	return t
}()
