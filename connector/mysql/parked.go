package mysql

import (
	"context"
	"fmt"
	"sync"
)

// parked are the connections of prepared transactions of this process, by the transactions' names. A writer puts them here, and the
// operator's committer takes them: both are made from one TxSink, apart from each other, and have nothing else in common.
var parked = struct {
	sync.Mutex
	by map[string]parking
}{by: map[string]parking{}}

type parking struct {
	s      *session
	xid    string
	server string // its id
	lock   string // of the slot
	owner  string // of the operator
}

func park(name string, p parking) {
	parked.Lock()
	defer parked.Unlock()
	parked.by[name] = p
}

// unpark takes the connections that match.
func unpark(match func(name string, p parking) bool) (out []parking) {
	parked.Lock()
	defer parked.Unlock()
	for name, p := range parked.by {
		if match(name, p) {
			delete(parked.by, name)
			out = append(out, p)
		}
	}
	return out
}

// finish commits the transaction, or rolls it back, and ends the session. After an error the server has it or has finished it.
func (p parking) finish(ctx context.Context, verb string) error {
	err := p.s.exec(ctx, fmt.Sprintf("xa %s %s; do release_all_locks()", verb, p.xid))
	p.s.drop()
	return err
}
