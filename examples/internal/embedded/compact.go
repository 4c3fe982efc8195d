package embedded

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// databases is how many databases the log keeps when it is shortened, as many as Redis has by default.
const databases = 16

// chunk is how many words of data one entry of a shortened log holds about.
const chunk = 512

// errNoSnapshot says that the data holds something that can't be written as a few commands.
var errNoSnapshot = errors.New("no short form")

// Commands that only the log knows: the exact time to live, in microseconds, of a key and of a field of a hash.
const (
	cmdKeyTTL   = ".KEYTTL"
	cmdFieldTTL = ".FIELDTTL"
)

// compact replaces the log by one that creates the present content. A log with data that has no short form (streams,
// HyperLogLogs) stays as it is, but for an incomplete end of the given length.
func (r *Redis) compact(path string, torn int64) error {
	tmp := path + ".new"
	err := r.writeSnapshot(tmp)
	if err == nil {
		return os.Rename(tmp, path)
	}
	if rmErr := os.Remove(tmp); rmErr != nil {
		return fmt.Errorf("remove unfinished log: %w", rmErr)
	}
	if !errors.Is(err, errNoSnapshot) {
		return err
	}
	r.log.Info("embedded redis: log not shortened", "file", path, "why", err)
	if torn == 0 {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return os.Truncate(path, info.Size()-torn)
}

func (r *Redis) writeSnapshot(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	err = r.snapshot(func(db int, words []string) error {
		e := r.next(db, [][]string{words})
		_, err := w.Write(e.encode())
		return err
	})
	return errors.Join(err, w.Flush(), f.Close())
}

// snapshot calls emit for commands that make up the whole content.
func (r *Redis) snapshot(emit func(db int, words []string) error) error {
	for i := range databases {
		db := r.mini.DB(i)
		for _, key := range db.Keys() {
			if err := snapshotKey(db, key, func(words ...string) error { return emit(i, words) }); err != nil {
				return fmt.Errorf("shorten log: key %q of database %d: %w", key, i, err)
			}
		}
	}
	return nil
}

func snapshotKey(db *miniredis.RedisDB, key string, emit func(words ...string) error) error {
	cmd, words, err := content(db, key)
	if err != nil {
		return err
	}
	for part := range slices.Chunk(words, chunk) {
		if err := emit(append([]string{cmd, key}, part...)...); err != nil {
			return err
		}
	}
	if db.Type(key) == "hash" {
		for i := 0; i < len(words); i += 2 {
			if ttl := db.HTTL(key, words[i]); ttl > 0 {
				if err := emit(cmdFieldTTL, key, words[i], micros(ttl)); err != nil {
					return err
				}
			}
		}
	}
	if ttl := db.TTL(key); ttl > 0 {
		return emit(cmdKeyTTL, key, micros(ttl))
	}
	return nil
}

// content returns the command that creates a key and its arguments, which may be given to it in parts of even length.
func content(db *miniredis.RedisDB, key string) (cmd string, words []string, err error) {
	switch kind := db.Type(key); kind {
	case "string":
		v, err := db.Get(key)
		return "SET", []string{v}, err
	case "list":
		words, err = db.List(key)
		return "RPUSH", words, err
	case "set":
		words, err = db.Members(key)
		return "SADD", words, err
	case "hash":
		fields, err := db.HKeys(key)
		for _, f := range fields {
			words = append(words, f, db.HGet(key, f))
		}
		return "HSET", words, err
	case "zset":
		scores, err := db.SortedSet(key)
		for member, score := range scores {
			words = append(words, strconv.FormatFloat(score, 'g', -1, 64), member)
		}
		return "ZADD", words, err
	default:
		return "", nil, fmt.Errorf("%s: %w", kind, errNoSnapshot)
	}
}

func micros(d time.Duration) string { return strconv.FormatInt(d.Microseconds(), 10) }

// restoreTTL runs one of the log's own commands.
func (r *Redis) restoreTTL(i int, words []string) error {
	n, err := strconv.ParseInt(words[len(words)-1], 10, 64)
	ttl := time.Duration(n) * time.Microsecond
	switch db := r.mini.DB(i); {
	case err != nil:
		return fmt.Errorf("time to live: %w", err)
	case words[0] == cmdKeyTTL && len(words) == 3:
		db.SetTTL(words[1], ttl)
		return nil
	case words[0] == cmdFieldTTL && len(words) == 4:
		db.HExpire(words[1], words[2], ttl)
		return nil
	default:
		return fmt.Errorf("%w: unknown command %q", errBody, words)
	}
}
