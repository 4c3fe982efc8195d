package engine

import (
	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
)

// rename gives what a record holds of renamed operators to their new names.
func (c Config) rename(rec *store.Record) error {
	for name, old := range c.Renamed {
		op, had := rec.Operators[old]
		_, has := rec.Operators[name]
		if had == has {
			which := map[bool]string{true: "both", false: "neither"}[had]
			return fault.New(fault.UnknownName, "Config.Renamed says that %q was %q: checkpoint %d has %s", name, old, rec.Epoch, which)
		}
		if has {
			continue // a checkpoint was taken since
		}
		rec.Operators[name] = op
		delete(rec.Operators, old)
		if s, ok := rec.Sources[old]; ok {
			rec.Sources[name] = s
			delete(rec.Sources, old)
		}
		for i, h := range rec.Handles {
			if h.Operator == old {
				rec.Handles[i].Operator = name
			}
		}
	}
	return nil
}
