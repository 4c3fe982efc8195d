package parts

import (
	"cmp"
	"time"
)

// DefaultSize is where files end, in bytes, if nothing else is said.
const DefaultSize = 128 << 20

// Rolling says when a file is ended and the next record of its bucket begins another. Every file ends at a barrier too.
type Rolling struct {
	Size int64         // bytes, as the encoder counts them; passed by a record at most. 0 = DefaultSize, negative = no limit
	Age  time.Duration // since its first record, looked at when a record comes. 0 or negative = no limit
}

// Due says whether a file ends.
func (r Rolling) Due(size int64, age time.Duration) bool {
	limit := cmp.Or(r.Size, DefaultSize)
	return limit > 0 && size >= limit || r.Age > 0 && age >= r.Age
}
