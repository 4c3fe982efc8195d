package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"
)

// XAddID appends an entry of fields and values, in pairs, to the stream at key, under an id made of the record: "5" or "5-1", such
// as the offset it was read from. The ids of a stream must rise in the order in which its records are written, so one task
// writes to it and Batching.Key, if set, gives its records one name. Sent again, the entry is there already, which is looked
// up and taken for done. An entry whose id isn't above the last one and that isn't there, or is another one, makes the
// record a rejected one. Servers before 7.0 can't tell a trimmed entry from one that never came, and so reject it.
func (c *Cmds) XAddID(key, id string, fieldsAndValues ...any) {
	if !c.pairs("xadd", key, fieldsAndValues) {
		return
	}
	if _, err := parseID(id); err != nil {
		c.fail("xadd", key, err)
		return
	}
	args := []any{id}
	for _, a := range fieldsAndValues {
		v, err := plain(a)
		if err != nil {
			c.fail("xadd", key, err)
			return
		}
		args = append(args, written(v))
	}
	c.add("xadd", key, args...)
}

// XTrim removes the oldest entries of the stream at key so that about atMost are left.
func (c *Cmds) XTrim(key string, atMost int64) { c.add("xtrim", key, "maxlen", "~", atMost) }

// written is a plain value as the server gets it.
func written(v any) string {
	switch v := v.(type) {
	case []byte:
		return string(v)
	case bool:
		if v {
			return "1"
		}
		return "0"
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}

// streamID is the id of an entry.
type streamID struct{ ms, seq uint64 }

func (a streamID) above(b streamID) bool { return a.ms > b.ms || a.ms == b.ms && a.seq > b.seq }

func parseID(text string) (id streamID, err error) {
	ms, seq, two := strings.Cut(text, "-")
	id.ms, err = strconv.ParseUint(ms, 10, 64)
	if two && err == nil {
		id.seq, err = strconv.ParseUint(seq, 10, 64)
	}
	if err != nil {
		return id, fmt.Errorf("id %q isn't one or two numbers like 5-1", text)
	}
	return id, nil
}

// notAbove says whether a stream refused an entry because its id isn't above the last one.
func notAbove(cmd *goredis.Cmd) bool {
	return cmd.Name() == "xadd" && cmd.Err() != nil && strings.Contains(cmd.Err().Error(), "equal or smaller than")
}

// settleEntries looks for the entries that were refused because of their ids: for one that is there, the answer becomes good.
func settleEntries(ctx context.Context, client goredis.UniversalClient, cmds []*goredis.Cmd) {
	var refused []*goredis.Cmd
	for _, cmd := range cmds {
		if notAbove(cmd) {
			refused = append(refused, cmd)
		}
	}
	if len(refused) == 0 {
		return
	}
	pipe := client.Pipeline()
	there := make([]*goredis.Cmd, len(refused))
	about := make([]*goredis.XInfoStreamCmd, len(refused))
	for i, cmd := range refused {
		key, id := cmd.Args()[1].(string), cmd.Args()[2]
		there[i] = pipe.Do(ctx, "xrange", key, id, id)
		about[i] = pipe.XInfoStream(ctx, key)
	}
	_, _ = pipe.Exec(ctx) // each command has its own answer
	for i, cmd := range refused {
		settleEntry(cmd, there[i], about[i])
	}
}

func settleEntry(cmd, there *goredis.Cmd, about *goredis.XInfoStreamCmd) {
	found, err := there.Slice()
	if err = errors.Join(err, about.Err()); err != nil {
		cmd.SetErr(fmt.Errorf("look for entry %v of stream %s: %w", cmd.Args()[2], keyOf(cmd), err))
		return
	}
	switch {
	case len(found) > 0 && !slices.Equal(fields(found[0]), cmd.Args()[3:]):
		cmd.SetErr(fmt.Errorf("another entry has the id %v: %w", cmd.Args()[2], cmd.Err()))
	case len(found) > 0 || trimmed(cmd.Args()[2].(string), about.Val()):
		cmd.SetErr(nil)
		cmd.SetVal(cmd.Args()[2])
	default:
		cmd.SetErr(fmt.Errorf("entry %v came after a later one: %w", cmd.Args()[2], cmd.Err()))
	}
}

// fields are those of an answer to XRANGE.
func fields(entry any) []any {
	if parts, ok := entry.([]any); ok && len(parts) == 2 {
		all, _ := parts[1].([]any)
		return all
	}
	return nil
}

// trimmed says whether an entry that isn't there is older than all that are, in a stream that entries have been removed from.
func trimmed(id string, s *goredis.XInfoStream) bool {
	at, err := parseID(id)
	if err != nil || s.EntriesAdded <= s.Length {
		return false
	}
	first, err := parseID(s.FirstEntry.ID)
	return err != nil || first.above(at)
}
