package txn

import (
	"crypto/rand"
	"encoding/hex"
	"strings"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// TokenLen is the length of a token: 32 hex digits.
const TokenLen = 32

// NewToken makes a token for one transaction: random, unique for ever.
func NewToken() string {
	var b [TokenLen / 2]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// NameOf names a transaction in the destination: <slot>-<token>.
func NameOf(slot, token string) string { return slot + "-" + token }

// SlotOf takes slot and token out of such a name; ok is false for any other. The token has a fixed length and no dash, so a
// slot whose name begins like another's isn't taken for it.
func SlotOf(name string) (slot, token string, ok bool) {
	if len(name) < TokenLen+2 {
		return "", "", false
	}
	slot, token = name[:len(name)-TokenLen-1], name[len(name)-TokenLen:]
	if name[len(slot)] != '-' || !Plain(slot) || strings.Trim(token, "0123456789abcdef") != "" {
		return "", "", false
	}
	return slot, token, true
}

// Plain says whether s consists of letters, digits, dots and dashes, as slots' names do: it can stand between quotes as it is.
func Plain(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-'
	}) < 0
}

// CheckSlot refuses a slot whose name has other characters or more than limit bytes. Limit is what the destination leaves for
// it: for names made by [NameOf] that is TokenLen+1 less than it takes. The error is permanent.
func CheckSlot(s sink.Slot, limit int) error {
	if !Plain(s.Name) {
		return sink.Permanent(fault.New(fault.SinkFailed, "slot name %q can't be part of a transaction's name", s.Name).
			WithFix("name job and operator with letters, digits, dots and dashes"))
	}
	if len(s.Name) > limit {
		return sink.Permanent(fault.New(fault.SinkFailed, "slot name %s has %d bytes, and the destination has room for %d", s.Name, len(s.Name), limit).
			WithFix("give the job or the operator a shorter name"))
	}
	return nil
}

// Under says whether a slot belongs to a prefix: its name is the prefix, or begins with the prefix and a dash. Every slot is
// under "".
func Under(slot, prefix string) bool {
	return prefix == "" || slot == prefix || strings.HasPrefix(slot, prefix+"-")
}
