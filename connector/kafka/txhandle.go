package kafka

import (
	"fmt"

	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

// handleVersion is the version of native.
const handleVersion = 1

// native is what a handle carries: who may finish the transaction, and where its records lie, which proves its fate.
type native struct {
	ID       string `json:"id"` // transactional id
	Producer int64  `json:"producer"`
	Epoch    int16  `json:"epoch"`
	EndTxn   int16  `json:"end_txn"` // the version of the request that ends it
	Begun    int64  `json:"begun"`   // Unix milliseconds
	Timeout  int64  `json:"timeout"` // milliseconds

	Places []place `json:"places,omitempty"` // of the first record in each partition; none: the transaction is empty
}

// place is where a record lies.
type place struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

func (p place) String() string { return fmt.Sprintf("%s/%d@%d", p.Topic, p.Partition, p.Offset) }

func readNative(h sink.Handle) (native, error) {
	n, err := txn.Decode[native](h, handleVersion)
	switch {
	case err != nil:
		return n, err
	case n.ID == "" || n.Producer < 0 || n.Epoch < 0 || n.EndTxn < 0 || n.EndTxn > 5:
		return n, txn.Unreadable(h, "transactional id %q, producer %d, epoch %d, EndTxn version %d", n.ID, n.Producer, n.Epoch, n.EndTxn)
	}
	return n, nil
}
