package state

import "testing"

// ModelOver runs the model test over a backend whose tables have some room in memory.
func ModelOver(t *testing.T, of func(room int64) Backend) {
	t.Run("int64", func(t *testing.T) { diskTest(t, intKeys(300), of) })
	t.Run("struct", func(t *testing.T) { diskTest(t, structKeys(300), of) })
}
