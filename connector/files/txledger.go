package files

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// A ledger says of the last transaction of each slot which of its files were joined, and into which. It is the proof that they are committed, if that
// file is visible: their own names never are. A slot is used again only when the commit of its last transaction is recorded, so nobody asks
// for older ones.
type ledger struct {
	Version int              `json:"version"`
	Slots   map[string]entry `json:"slots"`
}

type entry struct {
	Token string            `json:"token"`
	In    map[string]string `json:"in"` // by name within the transaction: the visible file
}

const ledgerVersion = 1

// baseOf is what the slots of an operator have in common.
func baseOf(s sink.Slot) string {
	if i := strings.LastIndexByte(s.Name, '-'); i > 0 {
		return s.Name[:i]
	}
	return s.Name
}

// ledgerName is of a hidden file that stays.
func ledgerName(base string) string { return "." + base + ".joined" }

func readLedger(d disk, base string) (*ledger, error) {
	l := &ledger{Version: ledgerVersion, Slots: map[string]entry{}}
	data, err := os.ReadFile(d.at(ledgerName(base)))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return l, nil
	case err != nil:
		return nil, fault.Wrap(fault.CommitFailed, err, "read which files were joined")
	}
	if err := json.Unmarshal(data, l); err != nil {
		return nil, sink.Permanent(fault.Wrap(fault.CommitFailed, err, "%s, which says which files were joined, is damaged", d.at(ledgerName(base))).
			WithFix("put the whole file back, or resume from an earlier checkpoint"))
	}
	if l.Version > ledgerVersion {
		return nil, sink.Permanent(fault.New(fault.NewerFormat, "%s has version %d, this binary knows %d", d.at(ledgerName(base)), l.Version, ledgerVersion))
	}
	return l, nil
}

// ledger reads each once.
func (p *plan) ledger(d disk, s sink.Slot) (*ledger, error) {
	base := baseOf(s)
	if l := p.ledgers[base]; l != nil {
		return l, nil
	}
	l, err := readLedger(d, base)
	if err == nil {
		p.ledgers[base] = l
	}
	return l, err
}

// find is the visible file that one of a transaction's was to be joined into; "" if none was.
func (l *ledger) find(h sink.Handle, path string) string {
	if e := l.Slots[h.Slot.Name]; e.Token == h.Token {
		return e.In[path]
	}
	return ""
}

// note adds a file that will be joined. What was said of the slot's former transaction goes.
func (l *ledger) note(h sink.Handle, path, into string) {
	e := l.Slots[h.Slot.Name]
	if e.Token != h.Token {
		e = entry{Token: h.Token, In: map[string]string{}}
		l.Slots[h.Slot.Name] = e
	}
	e.In[path] = into
}

// write replaces the ledger in one step, by way of temp. The directory is left to the caller to sync.
func (l *ledger) write(d disk, base, temp string) error {
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	err = d.put(temp, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
	if err != nil {
		return err
	}
	return d.rename(temp, ledgerName(base))
}

// forget removes ledgers in which nothing is left to prove: all slots were cleared, and nothing that is kept is in them.
func (c *txCommitter) forget(keep []sink.Handle, slots []sink.Slot) error {
	cleared := map[string]bool{}
	bases := map[string]bool{}
	for _, s := range slots {
		cleared[s.Name], bases[baseOf(s)] = true, true
	}
	tokens := map[string]bool{}
	for _, h := range keep {
		tokens[h.Token] = true
	}
	for base := range bases {
		l, err := readLedger(c.disk, base)
		if err != nil {
			return err
		}
		needed := len(l.Slots) == 0
		for slot, e := range l.Slots {
			needed = needed || !cleared[slot] || tokens[e.Token]
		}
		if needed {
			continue
		}
		if err := c.disk.remove(ledgerName(base)); err != nil {
			return fault.Wrap(fault.CommitFailed, err, "remove leftover %s", ledgerName(base))
		}
	}
	return nil
}
