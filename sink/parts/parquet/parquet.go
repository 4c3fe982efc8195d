// Package parquet is the Parquet format of sinks that write part files. Only those link its library who import it.
//
//	files.TxSink[Order]{Dir: "out", Format: parquet.Format[Order]{}}
//
// Columns are the fields of the record's type, which is a struct, as its tags name them:
//
//	type Order struct {
//		ID    int64     `parquet:"id"`
//		At    time.Time `parquet:"at,timestamp(microsecond)"`
//		Shop  string    `parquet:"shop,dict"`
//		Total *float64  `parquet:"total,optional"`
//	}
//
// A type that has no columns is an error when the pipeline is built. A file has its footer when it ends, so it can be read whole or
// not at all.
//
// # Memory
//
// A column's pages are kept until its row group is full or the file ends: up to RowGroup for each file that is open. With
// many buckets lower it, or MaxOpen. An encoder keeps up to 128 records, as they are, until it writes them. Nothing blocks but the file.
package parquet

import (
	"cmp"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"

	"github.com/weirline/weirline/sink/parts"
)

// DefaultRowGroup is where row groups end, in bytes, if nothing else is said.
const DefaultRowGroup = 32 << 20

// Format is Parquet, compressed by Snappy.
type Format[T any] struct {
	RowGroup int64                  // size of a row group in bytes before the last of them are compressed. 0 = DefaultRowGroup, negative = one for a file
	Options  []parquet.WriterOption // more for the library, such as parquet.Compression(&parquet.Zstd). Unset: none
}

var (
	_ parts.Format[struct{}] = Format[struct{}]{}
	_ parts.Joiner           = Format[struct{}]{}
)

// Encoder makes one, or says why the type or the options can't be used.
func (f Format[T]) Encoder() (_ parts.Encoder[T], err error) {
	w, err := f.writer(io.Discard)
	if err != nil {
		return nil, err
	}
	return &encoder[T]{w: w, group: cmp.Or(f.RowGroup, DefaultRowGroup), rows: make([]T, 0, pending)}, nil
}

// writer makes the library's. It panics where it doesn't like something.
func (f Format[T]) writer(to io.Writer) (w *parquet.GenericWriter[T], err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("write %T as Parquet with these options: %v", *new(T), r)
		}
	}()
	w = parquet.NewGenericWriter[T](to, append([]parquet.WriterOption{parquet.Compression(&parquet.Snappy)}, f.Options...)...)
	if s := w.Schema(); s == nil || len(s.Columns()) == 0 {
		return nil, fmt.Errorf("write %T as Parquet: it has no columns; use a struct with exported fields", *new(T))
	}
	return w, nil
}

// Ext is ".parquet".
func (Format[T]) Ext() string { return ".parquet" }

// pending is how many records are written at once: the library's cost of a call is shared.
const pending = 128

type encoder[T any] struct {
	w     *parquet.GenericWriter[T]
	group int64
	rows  []T
	done  int64 // bytes of whole row groups
	size  int64
}

// Begin starts a file.
func (e *encoder[T]) Begin(w io.Writer) error {
	e.w.Reset(w)
	clear(e.rows)
	e.rows, e.done, e.size = e.rows[:0], 0, 0
	return nil
}

// Append keeps a record, and writes those that are kept when there are many.
func (e *encoder[T]) Append(v T) error {
	e.rows = append(e.rows, v)
	if len(e.rows) < pending {
		return nil
	}
	return e.write()
}

func (e *encoder[T]) write() error {
	_, err := e.w.Write(e.rows)
	clear(e.rows)
	e.rows = e.rows[:0]
	if e.size = e.w.Size(); err == nil && e.group > 0 && e.size-e.done >= e.group {
		err = e.w.Flush()
		e.size = e.w.Size()
		e.done = e.size
	}
	if err != nil {
		return fmt.Errorf("write Parquet: %w", err)
	}
	return nil
}

// End writes the last row group and the footer.
func (e *encoder[T]) End() error {
	if err := e.write(); err != nil {
		return err
	}
	if err := e.w.Close(); err != nil {
		return fmt.Errorf("write the end of a Parquet file: %w", err)
	}
	e.size = e.w.Size()
	return nil
}

// Size leaves out the records that are kept, and the footer.
func (e *encoder[T]) Size() int64 { return e.size }

// Join makes one file. Large row groups are copied as they are; small ones, which would cost whoever reads the file, are written anew
// into larger ones.
func (f Format[T]) Join(w io.Writer, files []*io.SectionReader) error {
	out, err := f.writer(w)
	if err != nil {
		return err
	}
	limit := cmp.Or(f.RowGroup, DefaultRowGroup)
	var done int64
	for i, section := range files {
		in, err := parquet.OpenFile(section, section.Size())
		if err != nil {
			return fmt.Errorf("join Parquet: open file %d of %d: %w", i+1, len(files), err)
		}
		large := limit > 0 && section.Size() >= limit/8
		for _, g := range in.RowGroups() {
			if large || len(g.SortingColumns()) > 0 {
				_, err = out.WriteRowGroup(g)
				done = out.Size()
			} else {
				err = copyRows(out, g)
			}
			if err == nil && limit > 0 && out.Size()-done >= limit {
				err = out.Flush()
				done = out.Size()
			}
			if err != nil {
				return fmt.Errorf("join Parquet: copy rows of file %d of %d: %w", i+1, len(files), err)
			}
		}
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("join Parquet: write the end: %w", err)
	}
	return nil
}

func copyRows(to parquet.RowReaderFrom, g parquet.RowGroup) error {
	rows := g.Rows()
	_, err := to.ReadRowsFrom(rows)
	if cerr := rows.Close(); err == nil {
		err = cerr
	}
	return err
}
