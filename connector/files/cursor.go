package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/weirline/weirline/enumerator"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/source"
)

const (
	blockSize = 256 << 10
	rawSize   = 1 << 10 // how much of a line that is too long goes into its Reject
)

type lineOptions[T any] struct {
	decode func(Line) (T, error)
	time   func(T) time.Time
	max    int
	borrow bool
}

// cursor reads the lines of one split. What was read of the present file and not yet handed over is buf[pos:end].
type cursor[T any] struct {
	o        lineOptions[T]
	at       Split
	in       *input // of the first part, nil before it is opened
	buf      []byte
	pos, end int
	base     int64 // offset in the file of buf[0]
	eof      bool
	b        block
	average  int // length of the lines of the last batch

	// Skipping to the next line end, because the part begins inside a line or because the line is too long; then head is
	// what is kept of it.
	skipping bool
	head     []byte
}

func newCursor[T any](o lineOptions[T], at Split) *cursor[T] {
	if o.max < 0 {
		o.max = math.MaxInt - 2
	}
	return &cursor[T]{o: o, at: at}
}

func (c *cursor[T]) Read(ctx context.Context, out *source.Batch[T]) (Split, error) {
	before := len(out.Values) + len(out.Rejects)
	for {
		if err := ctx.Err(); err != nil {
			return c.at, err
		}
		if len(c.at.Parts) == 0 {
			return c.at, io.EOF
		}
		if c.in == nil {
			if err := c.open(); err != nil {
				return c.at, err
			}
		}
		if c.take(out) {
			if err := c.nextPart(); err != nil {
				return c.at, err
			}
		} else if len(out.Values)+len(out.Rejects) == before && !out.Full() {
			if err := c.fill(); err != nil {
				return c.at, err
			}
			continue
		}
		switch {
		case len(c.at.Parts) == 0:
			return c.at, io.EOF
		case len(out.Values)+len(out.Rejects) > before || out.Full():
			return c.at, nil
		}
	}
}

func (c *cursor[T]) Close() error {
	if c.in == nil {
		return nil
	}
	in := c.in
	c.in = nil
	return in.Close()
}

// open opens the first part where reading goes on. A part that begins inside a line is read from one byte before it: if
// that ends a line, the part begins with a line.
func (c *cursor[T]) open() error {
	p := c.at.Parts[0]
	from := c.at.Offset
	c.skipping = p.From > 0 && from < p.From
	if c.skipping {
		from = p.From - 1
	}
	in, err := openInput(p, from)
	if err != nil {
		return err
	}
	c.in, c.base, c.pos, c.end, c.eof, c.head = in, from, 0, 0, false, nil
	if want := int(min(in.size+1, blockSize)); in.gz {
		c.grow(blockSize)
	} else {
		c.grow(want)
	}
	c.b = block{path: p.Path}
	return nil
}

func (c *cursor[T]) nextPart() error {
	path := c.at.Parts[0].Path
	c.at.Parts, c.at.Offset = c.at.Parts[1:], 0
	if err := c.Close(); err != nil {
		return inputError(path, "close", err)
	}
	return nil
}

func (c *cursor[T]) grow(n int) {
	if n <= len(c.buf) {
		return
	}
	bigger := make([]byte, n)
	copy(bigger, c.buf[:c.end])
	c.buf = bigger
}

// fill reads more after what is there.
func (c *cursor[T]) fill() error {
	c.end = copy(c.buf, c.buf[c.pos:c.end])
	c.base += int64(c.pos)
	c.pos = 0
	if c.end == len(c.buf) {
		c.grow(2 * len(c.buf))
	}
	n, err := c.in.Read(c.buf[c.end:])
	c.end += n
	c.b.data, c.b.base, c.b.text = c.buf[:c.end], c.base, ""
	if errors.Is(err, io.EOF) {
		c.eof = true
		return nil
	}
	return err
}

// take hands over the lines that are there and says whether the part is finished.
func (c *cursor[T]) take(out *source.Batch[T]) (finished bool) {
	if out.Full() {
		return false
	}
	p := c.at.Parts[0]
	if c.skipping && !c.skip(out, p) {
		return c.eof || p.To >= 0 && c.head == nil && c.base+int64(c.pos) >= p.To
	}
	if c.past(p) {
		return true
	}
	if room := out.Room(); room > 0 {
		c.lines(out, room, p.To)
	}
	if c.past(p) {
		return true
	}
	if rest := c.buf[c.pos:c.end]; bytes.IndexByte(rest, '\n') < 0 {
		return c.tail(out, rest)
	}
	return false
}

// past says that the next line is another split's.
func (c *cursor[T]) past(p enumerator.Part) bool {
	return p.To >= 0 && !c.skipping && c.base+int64(c.pos) >= p.To
}

// tail deals with what stands after the last line end: the last line of the file, or the beginning of a line that is
// complete later or already too long.
func (c *cursor[T]) tail(out *source.Batch[T], rest []byte) (finished bool) {
	switch {
	case c.eof && len(rest) == 0:
		return true
	case c.eof && out.Full():
		return false
	case c.eof:
		c.b.data, c.b.base = c.buf[:c.end], c.base
		if c.o.borrow {
			c.b.data, c.b.base, c.b.text = c.lend(out, c.end), c.base+int64(c.pos), ""
		}
		c.emit(out, len(c.b.data)-len(rest), len(c.b.data))
		c.moved(c.end)
		return true
	case len(rest)-1 > c.o.max: // one more, it might be a '\r'
		c.head = append([]byte(nil), rest[:min(rawSize, len(rest))]...)
		c.skipping = true
		c.pos = c.end
	}
	return false
}

// skip goes to the end of the present line and says whether it got there.
func (c *cursor[T]) skip(out *source.Batch[T], p enumerator.Part) bool {
	i := bytes.IndexByte(c.buf[c.pos:c.end], '\n')
	if i < 0 && (!c.eof || c.head == nil) {
		c.pos = c.end
		return false
	}
	if i < 0 {
		i = c.end - c.pos // the file ends in a line that is too long
	} else {
		i++
	}
	if c.head != nil {
		length := c.base + int64(c.pos+i) - c.at.Offset
		c.reject(out, p.Path, c.at.Offset, c.head, c.tooLong(length))
	}
	c.skipping, c.head = false, nil
	c.moved(c.pos + i)
	return true
}

// moved sets the position to buf[pos].
func (c *cursor[T]) moved(pos int) {
	c.pos = pos
	c.at.Offset = c.base + int64(pos)
}

// lend copies buf[pos:to] to memory that lives as long as the batch.
func (c *cursor[T]) lend(out *source.Batch[T], to int) []byte {
	n := to - c.pos
	var mem []byte
	if len(out.Values) == 0 {
		mem = out.Scratch(n)
	} else {
		mem = make([]byte, n) // somebody else's values may point into the scratch memory
	}
	copy(mem, c.buf[c.pos:to])
	return mem
}

// lines hands over whole lines: at most room, and none that starts at to or later.
func (c *cursor[T]) lines(out *source.Batch[T], room int, to int64) {
	start, shift := c.pos, 0
	if c.o.borrow {
		until := c.end
		if guess := c.pos + room*(c.average+c.average/8) + 512; c.average > 0 && guess < until &&
			bytes.IndexByte(c.buf[c.pos:guess], '\n') >= 0 {
			until = guess
		}
		c.b.data, c.b.base, c.b.text = c.lend(out, until), c.base+int64(c.pos), ""
		start, shift = 0, c.pos
	}
	stop := len(c.b.data)
	if to >= 0 {
		stop = int(min(int64(stop), to-c.b.base))
	}
	data, p, n := c.b.data, start, 0
	for ; n < room && p < stop; n++ {
		i := bytes.IndexByte(data[p:], '\n')
		if i < 0 {
			break
		}
		c.emit(out, p, p+i)
		p += i + 1
	}
	if n > 0 {
		c.average = (p-start)/n + 1
		c.moved(p + shift)
	}
}

// emit hands over one line of the block, or rejects it.
func (c *cursor[T]) emit(out *source.Batch[T], from, to int) {
	if to > from && c.b.data[to-1] == '\r' {
		to--
	}
	l := Line{b: &c.b, from: from, to: to}
	if to-from > c.o.max {
		c.reject(out, l.Path(), l.Offset(), l.Bytes()[:min(rawSize, to-from)], c.tooLong(int64(to-from)))
		return
	}
	v, err := c.o.decode(l)
	switch {
	case err != nil:
		c.reject(out, l.Path(), l.Offset(), l.Bytes(), fault.Wrap(fault.BadRecord, err, "decode a line"))
	case c.o.time != nil:
		out.AddAt(v, c.o.time(v))
	default:
		out.Add(v)
	}
}

func (c *cursor[T]) reject(out *source.Batch[T], path string, offset int64, raw []byte, err error) {
	out.Reject(raw, fmt.Sprintf("%s at byte %d", path, offset), err)
}

func (c *cursor[T]) tooLong(length int64) error {
	return fault.New(fault.LineTooLong, "a line has %d bytes, allowed are %d", length, c.o.max).
		WithFix("raise MaxLine of the files source if such lines are expected")
}
