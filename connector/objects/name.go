package objects

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

const (
	maxKey    = 1024 // bytes, the protocol's limit
	maxSuffix = 48
	maxPrefix = 512

	// maxSlot is what is left for a slot's name in the last part of a key, for which servers over a file system have 255 bytes.
	maxSlot = 255 - maxSuffix - len("-_") - txn.TokenLen - len("10000000")

	maxParts = 10_000 // of an upload, the protocol's limit
)

// keyOf is <prefix><folder>/<slot>-<token>_<n><suffix>. Neither slot nor token has an underscore.
func (o settings) keyOf(folder, slot, token string, n int) string {
	if folder != "" {
		folder += "/"
	}
	return o.prefix + folder + txn.NameOf(slot, token) + fmt.Sprintf("_%04d", n) + o.suffix
}

// partsOf takes slot, token and number out of a key, whatever its folder and suffix; ok is false for any other key.
func partsOf(key string) (slot, token string, n int, ok bool) {
	name, rest, ok := strings.Cut(key[strings.LastIndexByte(key, '/')+1:], "_")
	if !ok {
		return "", "", 0, false
	}
	if slot, token, ok = txn.SlotOf(name); !ok {
		return "", "", 0, false
	}
	digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
	n, err := strconv.Atoi(rest[:digits])
	return slot, token, n, err == nil
}

// nativeVersion is the form of native.
const nativeVersion = 1

// native is what a handle carries. The first object is the one that says whether its transaction is prepared.
type native struct {
	Endpoint string   `json:"endpoint,omitempty"`
	Bucket   string   `json:"bucket"`
	Objects  []object `json:"objects"`
}

// object is one that waits to be completed.
type object struct {
	Key    string   `json:"key"`
	Upload string   `json:"upload"`
	Parts  []string `json:"parts"` // their ETags, by number from 1 on
	Size   int64    `json:"size"`  // bytes
}

func readNative(h sink.Handle) (native, error) {
	n, err := txn.Decode[native](h, nativeVersion)
	if err != nil {
		return n, err
	}
	for _, o := range n.Objects {
		_, token, _, ok := partsOf(o.Key)
		if !ok || token != h.Token || o.Upload == "" || len(o.Parts) == 0 || n.Bucket == "" {
			return n, txn.Unreadable(h, "object %q with %d parts of upload %q in bucket %q can't be one of this sink", o.Key, len(o.Parts), o.Upload, n.Bucket)
		}
	}
	return n, nil
}
