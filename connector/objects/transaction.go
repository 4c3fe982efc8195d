package objects

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
	"github.com/weirline/weirline/sink/parts"
	"github.com/weirline/weirline/txn"
)

// part is a piece of a file on its way.
type part struct {
	File   int // index into tx.files
	Number int // from 1 on
	Data   []byte
}

// file becomes an object. The task's goroutine owns it but for what mu guards.
type file struct {
	x     *tx
	index int // among the files of its transaction
	key   string
	buf   []byte // not cut into parts yet
	first []byte // part 1 of the transaction's first file, held back until all else is sent
	cuts  int    // parts there are
	size  int64  // bytes of them
	empty bool   // it has ended and has no records

	mu    sync.Mutex
	id    string   // of its upload; "" = none yet
	etags []string // by number of the part; "" = not sent yet
}

// tx turns the bytes of files into uploads, one transaction after another. It is where a [parts.Set] has its files.
type tx struct {
	o     settings
	t     sink.Task
	s     *store            // nil after Close
	send  sink.Writer[part] // runs upload
	gate  sink.Gated        // the same
	sick  sink.Failing      // the same
	slot  sink.Slot         // of the open transaction; no name between Prepare and Begin
	token string
	ctx   context.Context //nolint:containedctx // of the call of Write or Prepare that runs

	mu    sync.Mutex
	files []*file  // of the transaction; the first says whether it is prepared
	spare [][]byte // buffers that were sent
	err   error    // of an upload, for the task
}

var _ parts.Files[*file] = (*tx)(nil)

func openTx(ctx context.Context, o settings, t sink.Task) (*tx, error) {
	s, err := o.open(ctx)
	if err != nil {
		return nil, err
	}
	x := &tx{o: o, t: t, s: s}
	quiet := t
	quiet.Metrics = uncounted{} // parts aren't records
	x.send, err = async.Sink[part]{
		Send: func(ctx context.Context, ps []part) error { return x.upload(ctx, ps[0]) },
		// The client repeats requests, and bounds them.
		MaxBatch: 1, MaxInFlight: o.uploads, MaxBuffered: o.uploads, MaxBufferedBytes: -1, Linger: -1, Timeout: -1,
	}.Writer(ctx, quiet)
	if err != nil {
		s.close()
		return nil, err
	}
	x.gate, _ = sink.As[sink.Gated](x.send)
	x.sick, _ = sink.As[sink.Failing](x.send)
	return x, nil
}

type uncounted struct{}

func (uncounted) Count(string, int64)     {}
func (uncounted) Gauge(string, float64)   {}
func (uncounted) Observe(string, float64) {}

// Room implements [sink.Gated]: there is none while as many parts are on their way as may be.
func (x *tx) Room() bool { return x.gate.Room() }

// OnRoom implements [sink.Gated].
func (x *tx) OnRoom(wake func()) { x.gate.OnRoom(wake) }

// Err implements [sink.Failing]: a part couldn't be sent.
func (x *tx) Err() error { return x.failure(x.sick.Err()) }

// failure is what went wrong with an upload, if err comes from there. The uploads' own error is final to them only.
func (x *tx) failure(err error) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err != nil && x.err != nil {
		return x.err
	}
	return err
}

var (
	errNotBegun = errors.New("write or prepare objects: no transaction is open")
	errClosed   = errors.New("begin transaction: the writer is closed")
)

func (x *tx) begin(s sink.Slot) error {
	if x.s == nil {
		return errClosed
	}
	if x.slot.Name != "" {
		return fault.New(fault.SinkFailed, "begin transaction in slot %s: the one in slot %s is still open", s.Name, x.slot.Name)
	}
	if err := txn.CheckSlot(s, maxSlot); err != nil {
		return err
	}
	x.mu.Lock()
	x.files = nil
	x.mu.Unlock()
	x.slot, x.token = s, txn.NewToken()
	return nil
}

// Create implements [parts.Files]. The upload of a transaction's first file is made at once: recovery then finds it, and a writer
// that was taken for dead can't prepare a transaction whose first upload is gone.
func (x *tx) Create(folder string) (*file, error) {
	x.mu.Lock()
	f := &file{x: x, index: len(x.files), key: x.o.keyOf(folder, x.slot.Name, x.token, len(x.files))}
	x.files = append(x.files, f)
	x.mu.Unlock()
	if len(f.key) > maxKey {
		return nil, fault.New(fault.SinkFailed, "objects: key %s has %d bytes, and %d are the most", f.key, len(f.key), maxKey).
			WithFix("give Prefix, the folders, the job or the operator shorter names")
	}
	if f.index == 0 {
		if _, err := x.begun(x.ctx, f); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// begun returns a file's upload, made if there is none yet.
func (x *tx) begun(ctx context.Context, f *file) (id string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.id != "" {
		return f.id, nil
	}
	ctx, end := outlast(ctx)
	defer end()
	f.id, err = x.s.create(ctx, f.key, x.slot.Name, x.token)
	if err != nil {
		return "", x.s.failed(err, "begin upload of %s", f.key)
	}
	return f.id, nil
}

// outlast is a context that ends a little later than ctx. A request that was cancelled may have been done, and who began an upload
// needs its id to give it up.
func outlast(ctx context.Context) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(giveUp):
			cancel()
		case <-longer.Done():
		}
	})
	return longer, func() {
		stop()
		cancel()
	}
}

// Write takes bytes of an encoder. What fills a part exactly waits: the last part must have something in it.
func (f *file) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if len(f.buf) == f.x.o.partSize {
			if err := f.x.cut(f); err != nil {
				return n, err
			}
		}
		if f.buf == nil {
			f.buf = f.x.buffer()
		}
		m := min(len(p), f.x.o.partSize-len(f.buf))
		if need := len(f.buf) + m; need > cap(f.buf) {
			f.buf = append(make([]byte, 0, min(max(need, 2*cap(f.buf)), f.x.o.partSize)), f.buf...)
		}
		f.buf = append(f.buf, p[:m]...)
		n, p = n+m, p[m:]
	}
	return n, nil
}

// Finish implements [parts.Files]. Files without records are dropped, but for the first one if others have some.
func (x *tx) Finish(f *file, records int64) error {
	if f.empty = records == 0; f.empty && f.index > 0 {
		x.recycle(f.buf)
		f.buf = nil
		return nil
	}
	return x.cut(f)
}

// cut makes the next part of a file's buffer and hands it over. It waits if too many are on their way.
func (x *tx) cut(f *file) error {
	if f.cuts == maxParts {
		return fault.New(fault.SinkFailed, "objects: %s has %d parts, and an object can't have more", f.key, f.cuts).
			WithFix("raise PartSize, or let files end sooner by Rolling")
	}
	f.cuts++
	f.size += int64(len(f.buf))
	data := f.buf
	f.buf = nil
	if f.index == 0 && f.cuts == 1 {
		f.first = data
		return nil
	}
	return x.failure(x.send.Write(x.ctx, []part{{File: f.index, Number: f.cuts, Data: data}}))
}

// upload sends a part; it is called in the background, by several goroutines at once. Its error ends them all.
func (x *tx) upload(ctx context.Context, p part) error {
	x.mu.Lock()
	f := x.files[p.File]
	x.mu.Unlock()
	err := x.put(ctx, f, p.Number, p.Data)
	if err == nil {
		x.recycle(p.Data)
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.err == nil {
		x.err = err
	}
	return sink.Permanent(err)
}

func (x *tx) put(ctx context.Context, f *file, number int, data []byte) error {
	id, err := x.begun(ctx, f)
	if err != nil {
		return err
	}
	etag, err := x.s.put(ctx, f.key, id, number, data)
	if gone(err) {
		return x.s.failed(err, "upload part %d of %s: its upload was aborted by somebody else", number, f.key)
	}
	if err != nil {
		return x.s.failed(err, "upload part %d of %s", number, f.key)
	}
	x.t.Metrics.Count("parts", 1)
	x.t.Metrics.Count("part_bytes", int64(len(data)))
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.etags) < number {
		f.etags = append(f.etags, "")
	}
	f.etags[number-1] = etag
	return nil
}

// buffer is an empty one.
func (x *tx) buffer() []byte {
	x.mu.Lock()
	defer x.mu.Unlock()
	last := len(x.spare) - 1
	if last < 0 {
		return nil
	}
	b := x.spare[last]
	x.spare = x.spare[:last]
	return b
}

// spares is how many buffers wait to be used again.
const spares = 2

// recycle keeps a buffer, if not too many wait already.
func (x *tx) recycle(b []byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if cap(b) > 0 && len(x.spare) < spares {
		x.spare = append(x.spare, b[:0])
	}
}

// prepare sends what is left of files that have all ended, the first part of the first one last: with it the transaction is
// prepared. It stays so until somebody completes or aborts its uploads.
func (x *tx) prepare(epoch uint64) (sink.Handle, error) {
	if err := x.failure(x.send.Flush(x.ctx)); err != nil {
		return sink.Handle{}, err
	}
	n := native{Endpoint: x.o.client.Endpoint, Bucket: x.o.bucket}
	if slices.ContainsFunc(x.files, func(f *file) bool { return !f.empty }) {
		first := x.files[0]
		if err := x.put(x.ctx, first, 1, first.first); err != nil {
			return sink.Handle{}, err
		}
		x.recycle(first.first)
		first.first = nil
		for _, f := range x.files {
			if f.empty && f.index > 0 {
				continue
			}
			if len(f.etags) != f.cuts || slices.Contains(f.etags, "") {
				return sink.Handle{}, fault.New(fault.SinkFailed, "objects: %d of %d parts of %s were sent", len(f.etags), f.cuts, f.key)
			}
			n.Objects = append(n.Objects, object{Key: f.key, Upload: f.id, Parts: f.etags, Size: f.size})
		}
	} else {
		x.abort()
	}
	data, err := txn.Encode(nativeVersion, n)
	if err != nil {
		return sink.Handle{}, err
	}
	x.t.Metrics.Count("objects", int64(len(n.Objects)))
	h := sink.Handle{Operator: x.t.Operator, Slot: x.slot, Token: x.token, Epoch: epoch, Native: data}
	x.slot = sink.Slot{}
	return h, nil
}

// giveUp bounds what is done for the sake of tidiness.
const giveUp = 5 * time.Second

// abort gives the uploads of the open transaction up. What can't be aborted now recovery finds.
func (x *tx) abort() {
	ctx, cancel := context.WithTimeout(context.Background(), giveUp)
	defer cancel()
	for _, f := range x.files {
		if f.id == "" {
			continue
		}
		if err := x.s.abort(ctx, upload{key: f.key, id: f.id}); err != nil && !gone(err) {
			x.t.Log.Warn("an upload that was given up isn't aborted; the next start does it", "key", f.key, "error", err)
			return
		}
	}
}

// Close gives an open transaction up.
func (x *tx) Close() error {
	if x.s == nil {
		return nil
	}
	err := x.send.Close()
	if x.slot.Name != "" {
		x.abort()
	}
	x.s.close()
	x.s, x.slot = nil, sink.Slot{}
	return err
}
