package postgres

import (
	"hash/fnv"
	"strconv"

	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

const (
	maxGID  = 199                       // bytes, the server's limit
	maxSlot = maxGID - 1 - txn.TokenLen // what that leaves for a slot's name
)

// lockKey is the advisory lock that stands for a slot, or for a session of a plain sink.
func lockKey(slot string) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte("weirline:" + slot)) // never fails
	return int64(h.Sum64())
}

// nativeVersion is the form of native.
const nativeVersion = 1

// native is what a handle carries.
type native struct {
	GID    string  `json:"gid"`
	XID    string  `json:"xid,omitempty"` // of a prepared transaction, for the server's commit log
	Ledger *staged `json:"ledger,omitempty"`
	identity
}

// staged is what a handle carries of rows that wait in a staging table.
type staged struct {
	Schema string `json:"schema"` // of the ledger
	Rows   int64  `json:"rows"`
	At     int64  `json:"at"` // when they were staged, in the server's seconds since 1970
}

func readNative(h sink.Handle) (native, error) {
	n, err := txn.Decode[native](h, nativeVersion)
	if err != nil {
		return n, err
	}
	_, _, known := txn.SlotOf(n.GID)
	if n.Ledger != nil {
		if known && n.Ledger.Schema != "" {
			return n, nil
		}
		return n, txn.Unreadable(h, "ledger %q with %q can't be one of this sink", n.Ledger.Schema, n.GID)
	}
	if _, err := strconv.ParseUint(n.XID, 10, 64); err != nil || !known {
		return n, txn.Unreadable(h, "transaction %q with id %q can't be one of this sink", n.GID, n.XID)
	}
	return n, nil
}
