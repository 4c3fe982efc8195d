package postgres

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"hash/fnv"
	"strconv"
	"strings"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

const (
	tokenLen = 32  // hex digits
	maxGID   = 199 // bytes, the server's limit
)

// gidOf names a prepared transaction: <slot>-<token>.
func gidOf(slot, token string) string { return slot + "-" + token }

// slotOf takes the slot out of such a name; ok is false for any other name. The token has a fixed length and no dash, so a
// slot whose name begins like another's isn't taken for it.
func slotOf(gid string) (slot string, ok bool) {
	if len(gid) < tokenLen+2 {
		return "", false
	}
	slot, token := gid[:len(gid)-tokenLen-1], gid[len(gid)-tokenLen:]
	if _, err := hex.DecodeString(token); err != nil || gid[len(slot)] != '-' {
		return "", false
	}
	return slot, plain(slot)
}

// plain says whether s consists of letters, digits, dots and dashes, so that it can stand between quotes as it is.
func plain(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-'
	}) < 0
}

func checkSlot(s sink.Slot) error {
	if !plain(s.Name) {
		return fault.New(fault.SinkFailed, "slot name %q can't be part of a transaction's name", s.Name).
			WithFix("name job and operator with letters, digits, dots and dashes")
	}
	if n := len(gidOf(s.Name, strings.Repeat("0", tokenLen))); n > maxGID {
		return fault.New(fault.SinkFailed, "the transactions of slot %s have names of %d bytes, the server takes %d", s.Name, n, maxGID).
			WithFix("give the job or the operator a shorter name")
	}
	return nil
}

func newToken() string {
	var b [tokenLen / 2]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// lockKey is the advisory lock that stands for a slot.
func lockKey(slot string) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte("weirline:" + slot)) // never fails
	return int64(h.Sum64())
}

// native is the version 1 of what a handle carries.
type native struct {
	Version int    `json:"version"`
	GID     string `json:"gid"`
	XID     string `json:"xid"` // of the transaction, for the server's commit log
	identity
}

func readNative(h sink.Handle) (native, error) {
	var n native
	if err := json.Unmarshal(h.Native, &n); err != nil {
		return n, sink.Permanent(fault.Wrap(fault.CommitFailed, err, "read handle %s of slot %s", h.Token, h.Slot.Name))
	}
	if n.Version != 1 {
		return n, sink.Permanent(fault.New(fault.NewerFormat, "handle %s has version %d, this binary knows 1", h.Token, n.Version))
	}
	_, known := slotOf(n.GID)
	if _, err := strconv.ParseUint(n.XID, 10, 64); err != nil || !known {
		return n, sink.Permanent(fault.New(fault.CommitFailed, "handle %s names transaction %q with id %q, which can't be one of this sink",
			h.Token, n.GID, n.XID))
	}
	return n, nil
}
