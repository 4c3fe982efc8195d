package postgres

import (
	"github.com/weirline/weirline/internal/fault"
)

// Mode says by which means rows wait for the end of their epoch.
type Mode int

const (
	// XA prepares a transaction at the barrier and commits it when the epoch is complete. The server must allow prepared
	// transactions, and connections be direct ones.
	XA Mode = iota

	// Ledger copies rows into staging tables, in ordinary transactions, and moves them when the epoch is complete, in a
	// transaction that notes it in a ledger. Any server will do, and any pooler.
	Ledger

	plain // of Sink: rows don't wait
)

const (
	defaultSchema = "weirline"
	fixLedger     = "set Mode to postgres.Ledger, which needs no prepared transactions"
)

// check refuses a value that is none of the modes.
func (m Mode) check() error {
	if m != XA && m != Ledger {
		return fault.New(fault.BadPipeline, "postgres sink: Mode is %d", m).WithFix("use postgres.XA or postgres.Ledger")
	}
	return nil
}
