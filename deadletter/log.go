package deadletter

import "context"

// Log is a place where letters lie.
type Log interface {
	// Scan calls f with each letter that lies there when it begins, those of a part in the order they were written. It ends at
	// f's first error, which it returns.
	Scan(ctx context.Context, f func(at Place, l Letter) error) error

	// Marks returns what SetMarks has stored under a name last, nil if nothing. Names are those of operators.
	Marks(ctx context.Context, name string) ([]byte, error)

	// SetMarks stores marks under a name in the place of those before. They outlive this process when it returns, and the letters.
	SetMarks(ctx context.Context, name string, marks []byte) error

	// Lock keeps others from replaying letters of the name at the same time, as far as the place can. unlock ends that.
	Lock(ctx context.Context, name string) (unlock func() error, err error)

	// String is the place as a user would write it.
	String() string
}

// Place is where a letter lies in a Log. A letter keeps its place for ever, and no other one gets it.
type Place struct {
	Part string // a file, a partition
	N    int64  // a number that grows from letter to letter in a part
}
