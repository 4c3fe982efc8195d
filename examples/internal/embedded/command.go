package embedded

import (
	"bufio"
	"bytes"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2/server"
)

// plainCommands neither change data nor read it under a lock that matters; they act on the connection itself, so they
// must run on it. Every other command that isn't declared read-only counts as a write.
var plainCommands = map[string]bool{
	"AUTH": true, "CLIENT": true, "CLUSTER": true, "COMMAND": true, "ECHO": true, "HELLO": true, "INFO": true,
	"MEMORY": true, "OBJECT": true, "PING": true, "PSUBSCRIBE": true, "PUBLISH": true, "PUBSUB": true,
	"PUNSUBSCRIBE": true, "QUIT": true, "SUBSCRIBE": true, "TIME": true, "UNSUBSCRIBE": true, "UNWATCH": true,
	"WAIT": true, "WATCH": true, "XINFO": true,
}

// waitingCommands would hold up everyone else: they wait for another client's write.
var waitingCommands = map[string]bool{
	"BLMOVE": true, "BLPOP": true, "BRPOP": true, "BRPOPLPUSH": true, "BZMPOP": true, "BZPOPMAX": true, "BZPOPMIN": true,
}

// serve answers one command. words[0] is in upper case.
func (r *Redis) serve(c *server.Peer, words []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken != nil {
		c.WriteError("MISCONF the embedded server can't write its log: " + r.broken.Error())
		return
	}
	r.advance(time.Now())
	s := r.session(c)
	switch cmd := words[0]; {
	case otherDB(words):
		c.WriteError("ERR DB index is out of range")
	case s.multi && cmd == "EXEC" && len(words) == 1:
		r.serveExec(c, s)
	case s.multi || cmd == "MULTI" || cmd == "SELECT":
		r.serveSession(c, s, words)
	case waitingCommands[cmd] || cmd == "XREADGROUP" && blocks(words):
		c.WriteError("ERR the embedded server doesn't support " + cmd + " that waits; poll, or use a real Redis")
	case cmd == "XREAD" && blocks(words):
		r.mu.Unlock() // it only reads, and the writers it waits for need the lock
		r.inner.Dispatch(c, words)
		r.mu.Lock()
	case r.isWrite(cmd):
		// Logged whatever the answer is: a script that fails in the middle has changed something.
		e := r.next(s.db, [][]string{words})
		r.seed(e)
		r.answer(c, r.dispatch(c, words), &e)
	default:
		r.inner.Dispatch(c, words)
	}
}

// serveSession answers the commands that change what the session is, and everything between MULTI and EXEC.
func (r *Redis) serveSession(c *server.Peer, s *session, words []string) {
	reply := r.dispatch(c, words)
	switch ok := reply[0] != '-'; {
	case !ok:
	case words[0] == "MULTI":
		s.multi = true
	case words[0] == "DISCARD":
		s.multi, s.queue = false, nil
	case s.multi:
		s.queue = append(s.queue, words)
	case words[0] == "SELECT":
		s.db = selected(s.db, words)
	}
	r.answer(c, reply, nil)
}

// serveExec runs a transaction. It is one entry of the log, or none if it was given up or only reads.
func (r *Redis) serveExec(c *server.Peer, s *session) {
	queue := s.queue
	s.multi, s.queue = false, nil
	e := r.next(s.db, slices.Concat([][]string{{"MULTI"}}, queue, [][]string{{"EXEC"}}))
	r.seed(e)
	reply := r.dispatch(c, []string{"EXEC"})
	if reply[0] == '-' || string(reply) == "*-1\r\n" {
		r.answer(c, reply, nil) // refused because of a bad command or a changed key that was watched
		return
	}
	writes := false
	for _, words := range queue {
		writes = writes || r.isWrite(words[0])
		if words[0] == "SELECT" {
			s.db = selected(s.db, words)
		}
	}
	if !writes {
		r.answer(c, reply, nil)
		return
	}
	r.answer(c, reply, &e)
}

// answer appends the entry, if there is one, to the log, and then sends the reply. When the log can't be written, the
// data in memory is ahead of it: the server stops serving.
func (r *Redis) answer(c *server.Peer, reply []byte, e *entry) {
	if e != nil {
		if _, err := r.file.Write(e.encode()); err != nil {
			r.broken = err
			r.log.Error("embedded redis: write log", "err", err)
			c.WriteError("MISCONF the embedded server can't write its log: " + err.Error())
			return
		}
	}
	c.WriteRaw(string(reply))
}

// dispatch runs a command for a connection and returns the reply without sending it.
func (r *Redis) dispatch(c *server.Peer, words []string) []byte {
	var reply bytes.Buffer
	p := server.NewPeer(bufio.NewWriter(&reply))
	p.Ctx, p.Resp3 = c.Ctx, c.Resp3
	r.inner.Dispatch(p, words)
	p.Flush()
	c.Ctx = p.Ctx
	if p.Closed() {
		c.Close()
	}
	if reply.Len() == 0 {
		return []byte("-ERR no answer\r\n")
	}
	return reply.Bytes()
}

func (r *Redis) isWrite(cmd string) bool {
	return r.inner.IsRegisteredCommand(cmd) && !r.inner.IsReadOnlyCommand(cmd) && !plainCommands[cmd]
}

func (r *Redis) session(c *server.Peer) *session {
	s := r.sessions[c]
	if s == nil {
		s = &session{}
		r.sessions[c] = s
		c.OnDisconnect(func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			delete(r.sessions, c)
		})
	}
	return s
}

// next makes the entry for commands that are about to run.
func (r *Redis) next(db int, cmds [][]string) entry {
	r.seq++
	return entry{at: r.clock.UnixMicro(), seed: r.seq, db: db, cmds: cmds}
}

// seed makes what follows draw the same random numbers now and at a replay.
func (r *Redis) seed(e entry) {
	if slices.ContainsFunc(e.cmds, func(words []string) bool {
		return words[0] == "SPOP" || words[0] == "EVAL" || words[0] == "EVALSHA"
	}) {
		r.mini.Seed(int(e.seed))
	}
}

// replay runs an entry of the log as it ran the first time: at the same time, with the same random numbers.
func (r *Redis) replay(e entry) error {
	if at := time.UnixMicro(e.at); at.After(r.clock) {
		r.setClock(at)
	}
	r.seq = e.seed
	r.seed(e)
	p := server.NewPeer(bufio.NewWriter(io.Discard))
	r.dispatch(p, []string{"SELECT", strconv.Itoa(e.db)})
	for _, words := range e.cmds {
		if strings.HasPrefix(words[0], ".") {
			if err := r.restoreTTL(e.db, words); err != nil {
				return err
			}
			continue
		}
		r.dispatch(p, words)
	}
	return nil
}

// blocks says whether a stream read asks to wait.
func blocks(words []string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.EqualFold(w, "BLOCK") })
}

// otherDB says whether a command names a database beyond those that are kept.
func otherDB(words []string) bool {
	var named []string
	switch words[0] {
	case "SELECT", "SWAPDB":
		named = words[1:]
	case "MOVE":
		named = words[min(2, len(words)):]
	case "COPY":
		named = words[min(3, len(words)):]
	}
	return slices.ContainsFunc(named, func(w string) bool {
		db, err := strconv.Atoi(w)
		return err == nil && db >= databases
	})
}

// selected is the database after a SELECT that may have failed.
func selected(before int, words []string) int {
	if len(words) == 2 {
		if db, err := strconv.Atoi(words[1]); err == nil && db >= 0 {
			return db
		}
	}
	return before
}
