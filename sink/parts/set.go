package parts

import (
	"cmp"
	"fmt"
	"io"
	"time"

	"github.com/weirline/weirline/sink"
)

// Options are the settings of a [Set].
type Options[T any] struct {
	Format  Format[T] // needed
	Bucket  Bucket[T] // unset: all in one
	Rolling Rolling   // when a file ends before the barrier; the zero value has limits too
	MaxOpen int       // files open at once; one more ends the one that was used least recently. 0 = DefaultOpen, negative = no limit
}

// DefaultOpen is how many files a task has open at most if nothing else is said.
const DefaultOpen = 64

// Files is where a [Set]'s files are made. Their Write need not be buffered. Errors of all three should name the file and say
// what to do.
type Files[F io.Writer] interface {
	// Create begins a file in a bucket, the path of which has been checked.
	Create(bucket string) (F, error)

	// Finish is called when all bytes of a file are written. One without records can be thrown away.
	Finish(f F, records int64) error
}

// Set is the files that a task has open, one for each bucket. One goroutine calls it.
type Set[T any, F io.Writer] struct {
	o       Options[T]
	to      Files[F]
	open    map[string]*part[T, F]
	last    *part[T, F]  // that a record went to; nil if it has ended
	spare   []Encoder[T] // of files that have ended
	path    []byte
	uses    int64
	evicted int64
}

// part is an open file.
type part[T any, F io.Writer] struct {
	bucket  string
	f       F
	enc     Encoder[T]
	records int64
	began   time.Time
	used    int64
}

// NewSet makes an empty set, or says what is wrong with the format.
func NewSet[T any, F io.Writer](o Options[T], to Files[F]) (*Set[T, F], error) {
	enc, err := o.Format.Encoder()
	if err != nil {
		return nil, err
	}
	o.MaxOpen = cmp.Or(o.MaxOpen, DefaultOpen)
	return &Set[T, F]{o: o, to: to, open: map[string]*part[T, F]{}, spare: []Encoder[T]{enc}}, nil
}

// Write puts records into the files of their buckets. Those that can't be encoded, or have no proper bucket, come back in a
// *[sink.Rejected]. After any other error the set is to be given up.
func (s *Set[T, F]) Write(batch []T) error {
	now := time.Now()
	var refused map[int]error
	for i := range batch {
		err := s.write(batch[i], now)
		if err == nil {
			continue
		}
		if !IsBad(err) {
			return err
		}
		if refused == nil {
			refused = map[int]error{}
		}
		refused[i] = err
	}
	if refused != nil {
		return &sink.Rejected{Errs: refused}
	}
	return nil
}

func (s *Set[T, F]) write(v T, now time.Time) error {
	p, err := s.of(v, now)
	if err != nil {
		return err
	}
	if err := p.enc.Append(v); err != nil {
		return err
	}
	p.records++
	if s.o.Rolling.Due(p.enc.Size(), now.Sub(p.began)) {
		return s.finish(p)
	}
	return nil
}

// of finds or begins the file for a record.
func (s *Set[T, F]) of(v T, now time.Time) (*part[T, F], error) {
	if s.o.Bucket != nil {
		s.path = s.o.Bucket(s.path[:0], v)
	}
	p := s.last
	if p == nil || p.bucket != string(s.path) {
		if p = s.open[string(s.path)]; p == nil {
			var err error
			if p, err = s.begin(string(s.path), now); err != nil {
				return nil, err
			}
		}
		s.last = p
	}
	s.uses++
	p.used = s.uses
	return p, nil
}

func (s *Set[T, F]) begin(bucket string, now time.Time) (*part[T, F], error) {
	if err := CheckPath(bucket); err != nil {
		return nil, Bad(err)
	}
	if s.o.MaxOpen > 0 && len(s.open) >= s.o.MaxOpen {
		if err := s.evict(); err != nil {
			return nil, err
		}
	}
	p := &part[T, F]{bucket: bucket, began: now}
	if n := len(s.spare); n > 0 {
		p.enc, s.spare = s.spare[n-1], s.spare[:n-1]
	} else {
		var err error
		if p.enc, err = s.o.Format.Encoder(); err != nil {
			return nil, err
		}
	}
	var err error
	if p.f, err = s.to.Create(bucket); err != nil {
		return nil, err
	}
	s.open[bucket] = p
	if err := p.enc.Begin(p.f); err != nil {
		return nil, fmt.Errorf("begin file: %w", err)
	}
	return p, nil
}

// evict ends the file that was used least recently.
func (s *Set[T, F]) evict() error {
	var oldest *part[T, F]
	for _, p := range s.open {
		if oldest == nil || p.used < oldest.used {
			oldest = p
		}
	}
	s.evicted++
	return s.finish(oldest)
}

func (s *Set[T, F]) finish(p *part[T, F]) error {
	if err := p.enc.End(); err != nil {
		return fmt.Errorf("end file: %w", err)
	}
	delete(s.open, p.bucket)
	if s.last == p {
		s.last = nil
	}
	s.spare = append(s.spare, p.enc)
	return s.to.Finish(p.f, p.records)
}

// End finishes all open files, as at a barrier.
func (s *Set[T, F]) End() error {
	for _, p := range s.open {
		if err := s.finish(p); err != nil {
			return err
		}
	}
	return nil
}

// Drop forgets the open files without finishing them, and returns them, so that their owner gives them up.
func (s *Set[T, F]) Drop() (open []F) {
	for _, p := range s.open {
		open = append(open, p.f)
		s.spare = append(s.spare, p.enc)
	}
	clear(s.open)
	s.last = nil
	return open
}

// Evicted is how many files have ended early since there were too many.
func (s *Set[T, F]) Evicted() int64 { return s.evicted }
