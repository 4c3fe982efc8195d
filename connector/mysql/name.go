package mysql

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

const (
	maxPart = 64                           // bytes of each of the two parts of a transaction's name, the server's limit
	maxSlot = 2*maxPart - 1 - txn.TokenLen // what that leaves for a slot's name
)

// formatOf marks the transactions of a database: names are the server's, not the database's, and two databases may well have a
// job of the same name.
func formatOf(database string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte("weirline:" + database)) // never fails
	return h.Sum32() >> 1                          // the server takes 31 bits
}

// xidOf is how a statement names a transaction: the name, <slot>-<token>, cut in two if need be, and the format.
func xidOf(name, database string) string {
	head := name[:min(len(name), maxPart)]
	return fmt.Sprintf("'%s','%s',%d", head, name[len(head):], formatOf(database))
}

// lockOf is the name of the server's lock that stands for a slot. It takes 64 characters at most.
func lockOf(slot, database string) string {
	sum := sha256.Sum256([]byte(database + "/" + slot))
	return "weirline." + hex.EncodeToString(sum[:20])
}

// nativeVersion is the form of native.
const nativeVersion = 1

// native is what a handle carries.
type native struct {
	Name     string `json:"name"`     // of the transaction
	Database string `json:"database"` // the DSN's
	Tokens   string `json:"tokens"`   // the token table, quoted
	Server   string `json:"server"`   // its id
	Prepared int64  `json:"prepared"` // Unix seconds, by the server's clock
}

func (n native) xid() string { return xidOf(n.Name, n.Database) }

func (n native) token() string {
	_, token, _ := txn.SlotOf(n.Name)
	return token
}

// keepTokens is how long the rows of the token table are kept, at least.
const keepTokens = 7 * 24 * time.Hour

func readNative(h sink.Handle) (native, error) {
	n, err := txn.Decode[native](h, nativeVersion)
	if err != nil {
		return n, err
	}
	if _, _, known := txn.SlotOf(n.Name); !known || len(n.Name) > 2*maxPart || !quotedTable(n.Tokens) {
		return n, txn.Unreadable(h, "transaction %q with token table %q can't be one of this sink", n.Name, n.Tokens)
	}
	return n, nil
}
