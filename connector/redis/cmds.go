package redis

import (
	"context"
	"encoding"
	"fmt"
	"reflect"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// Cmds collects the commands of one record. Every key gets the sink's Prefix. Values may be strings, []byte, numbers,
// bools (1 or 0), anything based on these, and encoding.BinaryMarshaler; another value, or an odd number of them where
// pairs are due, makes the record a rejected one. Only commands whose repetition changes nothing are offered.
type Cmds struct {
	ctx    context.Context //nolint:containedctx // the client library wants one for each command; it is the pipeline's
	prefix string
	cmds   []*goredis.Cmd
	err    error // the first mistake of the present record

	keyOnly bool // collect nothing but the first key
	key     string
}

// Set sets key to value.
func (c *Cmds) Set(key string, value any) { c.add("set", key, value) }

// SetFor sets key to value and lets it expire after d, a millisecond at least.
func (c *Cmds) SetFor(key string, value any, d time.Duration) {
	c.add("set", key, value, "px", max(d.Milliseconds(), 1))
}

// HSet sets fields of the hash at key: field, value, field, value, and so on.
func (c *Cmds) HSet(key string, fieldsAndValues ...any) {
	if c.pairs("hset", key, fieldsAndValues) {
		c.add("hset", key, fieldsAndValues...)
	}
}

// HDel removes fields of the hash at key.
func (c *Cmds) HDel(key string, fields ...string) { c.add("hdel", key, list(fields)...) }

// ZAdd sets the score of a member of the sorted set at key.
func (c *Cmds) ZAdd(key string, score float64, member any) { c.add("zadd", key, score, member) }

// ZRem removes members of the sorted set at key.
func (c *Cmds) ZRem(key string, members ...any) { c.add("zrem", key, members...) }

// SAdd adds members to the set at key.
func (c *Cmds) SAdd(key string, members ...any) { c.add("sadd", key, members...) }

// SRem removes members of the set at key.
func (c *Cmds) SRem(key string, members ...any) { c.add("srem", key, members...) }

// SetList makes the list at key consist of values, at once for whoever reads it.
func (c *Cmds) SetList(key string, values ...any) {
	if len(values) == 0 {
		c.Del(key)
		return
	}
	c.put("eval", key, []any{"eval", setList, 1}, values)
}

// setList replaces a list as a whole.
const setList = `redis.call('del', KEYS[1]) for i = 1, #ARGV do redis.call('rpush', KEYS[1], ARGV[i]) end return 1`

// Del removes key.
func (c *Cmds) Del(key string) { c.add("del", key) }

// Expire lets key expire after d, a millisecond at least. Writing the record again starts d again.
func (c *Cmds) Expire(key string, d time.Duration) { c.add("pexpire", key, max(d.Milliseconds(), 1)) }

// ExpireAt lets key expire at a moment.
func (c *Cmds) ExpireAt(key string, at time.Time) { c.add("pexpireat", key, at.UnixMilli()) }

func (c *Cmds) pairs(name, key string, args []any) bool {
	if len(args) > 0 && len(args)%2 == 0 {
		return true
	}
	c.fail(name, key, fmt.Errorf("%d arguments where fields and values in pairs are due", len(args)))
	return false
}

func (c *Cmds) add(name, key string, args ...any) { c.put(name, key, []any{name}, args) }

// put adds a command: its head, then the key, then args.
func (c *Cmds) put(name, key string, head, args []any) {
	if c.keyOnly {
		if c.key == "" {
			c.key = c.prefix + key
		}
		return
	}
	all := append(append(make([]any, 0, len(head)+1+len(args)), head...), c.prefix+key)
	for _, a := range args {
		v, err := plain(a)
		if err != nil {
			c.fail(name, key, err)
			return
		}
		all = append(all, v)
	}
	c.cmds = append(c.cmds, goredis.NewCmd(c.ctx, all...))
}

func (c *Cmds) fail(name, key string, err error) {
	if c.err == nil {
		c.err = fmt.Errorf("make command %s %s: %w", name, c.prefix+key, err)
	}
}

func list(ss []string) []any {
	out := make([]any, len(ss))
	for i, s := range ss {
		out[i] = s
	}
	return out
}

// plain makes of a value what the client library can write: one it can't write would fail the whole pipeline.
func plain(v any) (any, error) {
	switch v := v.(type) {
	case string, []byte, int, int64, uint64, float64, bool:
		return v, nil
	case encoding.BinaryMarshaler:
		return v.MarshalBinary()
	}
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.String:
		return r.String(), nil
	case reflect.Bool:
		return r.Bool(), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return r.Int(), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return r.Uint(), nil
	case reflect.Float32, reflect.Float64:
		return r.Float(), nil
	case reflect.Slice:
		if r.Type().Elem().Kind() == reflect.Uint8 {
			return r.Bytes(), nil
		}
	}
	return nil, fmt.Errorf("a %T can't be a value", v)
}
