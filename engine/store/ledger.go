package store

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/weirline/weirline/internal/durable"
	"github.com/weirline/weirline/sink"
)

// grants is how many slots each operator may use. Lines are `"operator" slots`.
type grants struct {
	durable.Journal

	mu    sync.Mutex // serialises writes; held over I/O, because their order is what it guards
	state sync.Mutex // guards slots; never held over I/O. Lock order: mu, state
	slots map[string]int
}

func (g *grants) lines() []string {
	g.state.Lock()
	defer g.state.Unlock()
	var out []string
	for _, op := range slices.Sorted(maps.Keys(g.slots)) {
		out = append(out, grantLine(op, g.slots[op]))
	}
	return out
}

func grantLine(op string, upTo int) string {
	return strconv.QuoteToASCII(op) + " " + strconv.Itoa(upTo)
}

// parseGrants returns what the lines that can be read say, and the first error.
func parseGrants(lines []string) (map[string]int, error) {
	slots := map[string]int{}
	var damage error
	for _, l := range lines {
		op, rest, err := cutQuoted(l)
		n, convErr := strconv.Atoi(rest)
		if err != nil || convErr != nil || n < 0 {
			damage = cmp.Or(damage, fmt.Errorf("%w: line %q", ErrDamaged, l))
			continue
		}
		slots[op] = max(slots[op], n)
	}
	return slots, damage
}

// cutQuoted cuts a quoted string and the space behind it off a line.
func cutQuoted(l string) (s, rest string, err error) {
	q, err := strconv.QuotedPrefix(l)
	if err == nil {
		s, err = strconv.Unquote(q)
	}
	if err != nil {
		return "", "", fmt.Errorf("%w: line %q", ErrDamaged, l)
	}
	return s, strings.TrimPrefix(l[len(q):], " "), nil
}

// grant makes slots 0..upTo-1 durable.
func (g *grants) grant(op string, upTo int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.state.Lock()
	has := g.slots[op]
	g.state.Unlock()
	if upTo <= has {
		return nil
	}
	if err := g.Append(grantLine(op, upTo), g.lines); err != nil {
		return err
	}
	g.state.Lock()
	g.slots[op] = upTo
	g.state.Unlock()
	return nil
}

// commits is the tokens of transactions that are done, each with the epoch that prepared it. Lines are
// `epoch "token" epoch "token" ...`.
type commits struct {
	durable.Journal

	mu     sync.Mutex // as that of grants
	state  sync.Mutex // guards tokens; never held over I/O. Lock order: mu, state
	tokens map[string]uint64
}

func commitLine(b []byte, token string, epoch uint64) []byte {
	if len(b) > 0 {
		b = append(b, ' ')
	}
	b = strconv.AppendUint(b, epoch, 10)
	b = append(b, ' ')
	return strconv.AppendQuoteToASCII(b, token)
}

func (c *commits) lines() []string {
	c.state.Lock()
	defer c.state.Unlock()
	var out []string
	for _, t := range slices.Sorted(maps.Keys(c.tokens)) {
		out = append(out, string(commitLine(nil, t, c.tokens[t])))
	}
	return out
}

// parseCommits returns what the lines that can be read say, and the first error.
func parseCommits(lines []string) (map[string]uint64, error) {
	tokens := map[string]uint64{}
	var damage error
	for _, l := range lines {
		for rest := l; rest != ""; {
			number, quoted, ok := strings.Cut(rest, " ")
			n, err := strconv.ParseUint(number, 10, 64)
			token, after, quoteErr := cutQuoted(quoted)
			if !ok || err != nil || quoteErr != nil {
				damage = cmp.Or(damage, fmt.Errorf("%w: line %q", ErrDamaged, l))
				break
			}
			tokens[token] = n
			rest = after
		}
	}
	return tokens, damage
}

// commit makes the tokens of hs durable.
func (c *commits) commit(hs []sink.Handle) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var line []byte
	added := map[string]uint64{}
	c.state.Lock()
	for _, h := range hs {
		_, had := c.tokens[h.Token]
		_, twice := added[h.Token]
		if !had && !twice {
			added[h.Token] = h.Epoch
			line = commitLine(line, h.Token, h.Epoch)
		}
	}
	c.state.Unlock()
	if len(added) == 0 {
		return nil
	}
	if err := c.Append(string(line), c.lines); err != nil {
		return err
	}
	c.state.Lock()
	maps.Copy(c.tokens, added)
	c.state.Unlock()
	return nil
}

// compact forgets the tokens of epochs before oldest that live doesn't name, if that makes the file much smaller.
func (c *commits) compact(oldest uint64, live map[string]bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	drop := 0
	c.state.Lock()
	for t, e := range c.tokens {
		if e < oldest && !live[t] {
			drop++
		}
	}
	if drop < compactAt || drop < len(c.tokens)/2 {
		c.state.Unlock()
		return nil
	}
	maps.DeleteFunc(c.tokens, func(t string, e uint64) bool { return e < oldest && !live[t] })
	c.state.Unlock()
	if err := c.Rewrite(c.lines()); err != nil {
		return err
	}
	return c.Settle()
}

// compactAt is how many tokens must be of no use before the file is written anew.
const compactAt = 1000
