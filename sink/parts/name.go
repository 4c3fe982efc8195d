package parts

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"
)

// DefaultPrefix begins files' names if nothing else is said.
const DefaultPrefix = "part-"

// Name is what a part file is called:
//
//	<Prefix><Operator>-<Epoch>-<Slot>-<Token>-<Number><Suffix>     part-out-000000000007-2-9f86d081884c7d659a2feaa0c55ad015-0000.csv
//
// The token makes it unique; the rest is for people, and puts files in order.
type Name struct {
	Prefix   string // unset: DefaultPrefix
	Operator string
	Epoch    uint64 // 0 = not known when the file is named: left out
	Slot     int
	Token    string // of the transaction
	Number   int    // of the file in it
	Suffix   string
}

func (n Name) String() string {
	var epoch string
	if n.Epoch > 0 {
		epoch = fmt.Sprintf("-%012d", n.Epoch)
	}
	return fmt.Sprintf("%s%s%s-%d-%s-%04d%s", cmp.Or(n.Prefix, DefaultPrefix), n.Operator, epoch, n.Slot, n.Token, n.Number, n.Suffix)
}

// InName says whether s can be part of a file's name: it holds nothing that ends one.
func InName(s string) bool {
	return !strings.ContainsAny(s, "/\x00") && !strings.ContainsRune(s, filepath.Separator)
}
