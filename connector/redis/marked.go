package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/ahead"
	"github.com/weirline/weirline/sink/async"
)

// MarkedSink writes records by commands that may also add to what is there. Do is needed. Behind an [ahead.Sink] each record takes
// effect once:
//
//	engine.ToTx(views, "out", ahead.Sink[View]{Dir: dir, To: redis.MarkedSink[View]{
//		Do: func(v View, c *redis.MarkedCmds) error { c.HIncrBy("views", v.Page, v.N); return nil },
//	}})
//
// A batch and the mark of how far its transaction has come are one script, which the server carries out as a whole, logs and
// replicates as a whole. What a server loses after that, in a crash without appendfsync always or by a change to a replica
// that lagged, is lost. A batch holds other clients up while it runs: see ahead.Sink.Batch. The mark is a string under the key
// <Prefix>weirline:mark:<slot>, one for each slot; leave it alone. A record's commands aren't a transaction: of one whose second
// command is refused, the first is done, and done again if the record is tried again.
//
// Used alone, by engine.To, it is at least once: a command may be carried out again, which adds again. In a cluster all keys must
// be on one node, by a Prefix such as "{views}:". It implements [sink.Sink], [sink.Qualified], [sink.Preflight] and [ahead.Marked].
type MarkedSink[T any] struct {
	Addr     string      // host:port. Unset: localhost:6379, or Addrs
	Addrs    []string    // of a cluster: host:port of some of its nodes. Unset: one server, Addr
	Username string      // unset: the server's default user
	Password string      // unset: none
	TLS      *tls.Config // unset: no TLS
	DB       int         // number of the database. Unset: 0

	Prefix string // put before every key. Unset: none

	// Do says by which commands a record is written. An error makes the record a rejected one; none of its commands is
	// sent then. A command has a thousand arguments at most.
	Do func(v T, c *MarkedCmds) error

	// Batching is that of Sink, for a sink used alone; behind an ahead.Sink it says nothing.
	Batching async.Sink[T]
}

var (
	_ sink.Sink[string]    = MarkedSink[string]{}
	_ sink.Qualified       = MarkedSink[string]{}
	_ sink.Preflight       = MarkedSink[string]{}
	_ ahead.Marked[string] = MarkedSink[string]{}
)

// MarkedCmds collects the commands of one record: those of Cmds, and such as add to what is there.
type MarkedCmds struct{ *Cmds }

// IncrBy adds n to the number at key.
func (c *MarkedCmds) IncrBy(key string, n int64) { c.add("incrby", key, n) }

// HIncrBy adds n to the number in a field of the hash at key.
func (c *MarkedCmds) HIncrBy(key, field string, n int64) { c.add("hincrby", key, field, n) }

// ZIncrBy adds n to the score of a member of the sorted set at key.
func (c *MarkedCmds) ZIncrBy(key string, n float64, member any) { c.add("zincrby", key, n, member) }

// RPush appends values to the list at key.
func (c *MarkedCmds) RPush(key string, values ...any) { c.add("rpush", key, values...) }

// LPush puts values before the first of the list at key, one after the other.
func (c *MarkedCmds) LPush(key string, values ...any) { c.add("lpush", key, values...) }

// SetList makes the list at key consist of values.
func (c *MarkedCmds) SetList(key string, values ...any) {
	c.Del(key)
	if len(values) > 0 {
		c.RPush(key, values...)
	}
}

// XAdd appends an entry of fields and values, in pairs, to the stream at key.
func (c *MarkedCmds) XAdd(key string, fieldsAndValues ...any) {
	if c.pairs("xadd", key, fieldsAndValues) {
		c.add("xadd", key, append([]any{"*"}, fieldsAndValues...)...)
	}
}

// sink is the one that has the connection.
func (s MarkedSink[T]) sink() Sink[T] {
	plain := Sink[T]{
		Addr: s.Addr, Addrs: s.Addrs, Username: s.Username, Password: s.Password, TLS: s.TLS, DB: s.DB, Prefix: s.Prefix, Batching: s.Batching,
	}
	if s.Do != nil {
		plain.Do = func(v T, c *Cmds) error { return s.Do(v, &MarkedCmds{c}) }
	}
	return plain
}

// Promise implements sink.Qualified, for a sink used alone: an ahead.Sink makes its own.
func (s MarkedSink[T]) Promise() (promise, why, fix string) {
	return sink.AtLeastOnce, "its commands add to what is there, and a batch whose answer is lost is sent again",
		"put it behind an ahead.Sink (ToTx), which makes it exactly once, or use redis.Sink, whose commands may be repeated"
}

// Validate says everything that is wrong with the settings. The constructors call it too.
func (s MarkedSink[T]) Validate() error { return s.sink().Validate() }

// Preflight connects, logs in and looks whether the server takes writes. It takes 10 s at most.
func (s MarkedSink[T]) Preflight(ctx context.Context) error { return s.sink().Preflight(ctx) }

// Writer makes the writer of one task, which keeps no marks.
func (s MarkedSink[T]) Writer(ctx context.Context, t sink.Task) (sink.Writer[T], error) {
	return s.sink().Writer(ctx, t)
}

// MarkWriter makes the writer that keeps marks. It connects with the first call.
func (s MarkedSink[T]) MarkWriter(context.Context, sink.Task) (ahead.MarkWriter[T], error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	plain := s.sink()
	if plain.clustered() && tag(s.Prefix) == "" {
		return nil, fault.New(fault.BadPipeline, "redis sink: Prefix %q leaves the keys to several nodes of the cluster, and a mark must be beside its rows", s.Prefix).
			WithFix(`set Prefix to one with a part in braces, such as "{views}:"`)
	}
	return &markWriter[T]{s: plain, client: plain.client()}, nil
}

type markWriter[T any] struct {
	s      Sink[T]
	client goredis.UniversalClient
}

func (w *markWriter[T]) key(slot string) string { return w.s.Prefix + "weirline:mark:" + slot }

func text(m ahead.Mark) string {
	if m == (ahead.Mark{}) {
		return ""
	}
	return fmt.Sprint(m.Token, " ", m.Rows)
}

// Mark implements ahead.MarkWriter.
func (w *markWriter[T]) Mark(ctx context.Context, slot string) (m ahead.Mark, err error) {
	defer closeOnCancel(ctx, w.client)()
	kept, err := w.client.Get(ctx, w.key(slot)).Result()
	if errors.Is(err, goredis.Nil) {
		return m, nil
	}
	if err != nil {
		return m, w.failed(err)
	}
	token, rows, _ := strings.Cut(kept, " ")
	if m.Rows, err = strconv.ParseInt(rows, 10, 64); err != nil {
		return m, sink.Permanent(fault.New(fault.SinkFailed, "redis key %s holds %q, which isn't a mark", w.key(slot), kept).
			WithFix("set Prefix to one that nobody else uses; remove the key only if the rows of its slot may be written again"))
	}
	m.Token = token
	return m, nil
}

// marked carries out records until one is refused, and notes how many it has done. It does so before the first one too: a server
// that takes no writes then fails there, with nothing done. ARGV: the mark that must be there, the token of the
// one to keep, the rows it begins from, and for each record the number of commands, and for each command that of arguments, and these.
var marked = goredis.NewScript(`
local kept = redis.call('get', KEYS[1]) or ''
if kept ~= ARGV[1] then return {-1, kept} end
local function keep(n) redis.call('set', KEYS[1], ARGV[2] .. ' ' .. string.format('%.0f', ARGV[3] + n)) end
keep(0)
local at, done, why = 4, 0, ''
while at <= #ARGV and why == '' do
  local cmds = tonumber(ARGV[at])
  at = at + 1
  for _ = 1, cmds do
    local n = tonumber(ARGV[at])
    local answer = redis.pcall(unpack(ARGV, at + 1, at + n))
    if type(answer) == 'table' and answer.err then why = answer.err break end
    at = at + n + 1
  end
  if why == '' then done = done + 1 end
end
keep(done)
return {done, why}`)

// maxArgs is how many arguments the script can hand to a command.
const maxArgs = 1000

// Write implements ahead.MarkWriter.
func (w *markWriter[T]) Write(ctx context.Context, slot string, was, at ahead.Mark, rows []T) (int, error) {
	args := []any{text(was), at.Token, at.Rows}
	var bad error // of the row after those in args
	for _, v := range rows {
		if args, bad = w.record(ctx, args, v); bad != nil {
			break
		}
	}
	defer closeOnCancel(ctx, w.client)()
	answer, err := marked.Run(ctx, w.client, []string{w.key(slot)}, args...).Slice()
	if err != nil {
		return 0, w.failed(err)
	}
	if len(answer) != 2 {
		return 0, errNoAnswer
	}
	n, _ := answer[0].(int64)
	why, _ := answer[1].(string)
	switch {
	case n < 0:
		return 0, fmt.Errorf("%w: redis key %s holds %q", ahead.ErrMoved, w.key(slot), why)
	case why != "":
		return w.refused(int(n), answered(why))
	case bad != nil:
		return w.refused(int(n), async.Refuse(bad))
	}
	return int(n), nil
}

// record appends a record's commands.
func (w *markWriter[T]) record(ctx context.Context, args []any, v T) ([]any, error) {
	c := &Cmds{ctx: ctx, prefix: w.s.Prefix}
	if err := errors.Join(w.s.Do(v, c), c.err); err != nil {
		return args, err
	}
	out := append(args, len(c.cmds))
	for _, cmd := range c.cmds {
		if len(cmd.Args()) > maxArgs {
			return args, fmt.Errorf("a command has %d arguments, and %d is the most", len(cmd.Args()), maxArgs)
		}
		out = append(append(out, len(cmd.Args())), cmd.Args()...)
	}
	return out, nil
}

// answered is an error answer inside of the script.
type answered string

func (a answered) Error() string { return string(a) }

// RedisError makes it one of the client library's.
func (answered) RedisError() {}

// forbidden says whether the user may not call the command.
func (a answered) forbidden() bool {
	return denied(a) || strings.Contains(string(a), "ACL failure in script") || strings.Contains(string(a), "user executing the script can't")
}

// refused says what it means that record n wasn't written.
func (w *markWriter[T]) refused(n int, err error) (int, error) {
	a, is := errors.AsType[answered](err)
	switch {
	case is && a.forbidden():
		return n, sink.Permanent(w.s.authFailed(err))
	case is && (passing(err) || elsewhere(err)):
		return n, w.failed(err)
	}
	return n, &sink.Rejected{Errs: map[int]error{n: fault.Wrap(fault.SinkRejected, err, "redis refuses the record")}}
}

// failed says whether an error of the call can heal.
func (w *markWriter[T]) failed(err error) error {
	switch {
	case denied(err):
		return sink.Permanent(w.s.authFailed(err))
	case elsewhere(err) && !w.s.clustered():
		return sink.Permanent(w.s.inCluster(err))
	case alone(err) && w.s.clustered():
		return sink.Permanent(w.s.notCluster(err))
	}
	return fault.Wrap(fault.SinkFailed, err, "write to redis server %s", w.s.addr())
}

// Close may be called again.
func (w *markWriter[T]) Close() error {
	if err := w.client.Close(); !errors.Is(err, goredis.ErrClosed) {
		return err
	}
	return nil
}
