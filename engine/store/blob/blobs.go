package blob

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/cespare/xxhash/v2"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
)

// chunk is how many bytes one request reads.
const chunk = 4 << 20

// dir is the prefix of what this run writes for an epoch. No other run's is the same, so no object is ever replaced.
func (s *Store) dir(epoch uint64) string {
	return fmt.Sprintf("%s%020d/%020d/", runPrefix, s.self.Claim, epoch)
}

// writer is a store.Writer. It keeps up to InlineMax bytes before it begins an object.
type writer struct {
	s     *Store
	epoch uint64
	key   string
	buf   []byte
	sum   xxhash.Digest
	size  int64
	u     Upload // nil until it is more than may be inline
	ended bool
}

// Create implements store.Blobs.
func (s *Store) Create(epoch uint64, name string) (store.Writer, error) { return s.create(epoch, name) }

func (s *Store) create(epoch uint64, name string) (*writer, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	w := &writer{s: s, epoch: epoch, key: s.dir(epoch) + store.BlobName(name)}
	w.sum.Reset()
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, finished := s.blobs[w.key]; finished || s.writing[w.key] {
		return nil, fmt.Errorf("create blob %q of epoch %d: it exists", name, epoch)
	}
	if epoch <= s.cur {
		return nil, fmt.Errorf("create blob %q of epoch %d: epoch %d is complete", name, epoch, s.cur)
	}
	s.writing[w.key] = true
	return w, nil
}

// Write implements store.Writer.
func (w *writer) Write(p []byte) (int, error) {
	if w.ended {
		return 0, fmt.Errorf("write blob %s: it has ended", w.key)
	}
	w.sum.Write(p)
	w.size += int64(len(p))
	if w.u == nil {
		w.buf = append(w.buf, p...)
		if len(w.buf) <= w.s.o.InlineMax {
			return len(p), nil
		}
		return len(p), w.begin()
	}
	if _, err := w.u.Write(p); err != nil {
		return 0, w.s.full(err, w.key, "write blob")
	}
	return len(p), nil
}

// begin goes over from the buffer to an object.
func (w *writer) begin() error {
	u, err := w.s.b.Put(w.s.ctx, w.key)
	if err != nil {
		return w.s.full(err, w.key, "make blob")
	}
	w.u = u
	if _, err := u.Write(w.buf); err != nil {
		return w.s.full(err, w.key, "write blob")
	}
	w.buf = nil
	return nil
}

// Finish implements store.Writer.
func (w *writer) Finish() (store.Blob, error) {
	if w.ended {
		return store.Blob{}, fmt.Errorf("finish blob %s: it has ended", w.key)
	}
	b := store.Blob{Size: w.size, Sum: w.sum.Sum64()}
	if w.u == nil && len(w.buf) <= max(w.s.o.InlineMax, 0) {
		b.Inline = w.buf
		w.end(false)
		return b, nil
	}
	var err error
	if w.u == nil {
		err = w.begin()
	}
	if err == nil {
		err = w.u.Finish()
	}
	if err != nil {
		w.Abort()
		return store.Blob{}, w.s.full(err, w.key, "finish blob")
	}
	w.end(true)
	b.File = w.key
	return b, nil
}

// Abort implements store.Writer.
func (w *writer) Abort() {
	if w.ended {
		return
	}
	if w.u != nil {
		w.u.Abort()
		w.s.discard(w.key) // a Finish that failed may have come through
	}
	w.end(false)
}

// end takes the blob among those a record may name, unless it's too late for that.
func (w *writer) end(object bool) {
	w.ended, w.buf = true, nil
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !object:
	case s.writing[w.key] && w.epoch > s.cur:
		s.blobs[w.key] = made{epoch: w.epoch, size: w.size}
	default:
		s.garbage = append(s.garbage, w.key)
	}
	delete(s.writing, w.key)
}

// Adopt implements store.Blobs, by copy.
func (s *Store) Adopt(epoch uint64, name, path string) (store.Blob, error) {
	w, err := s.create(epoch, name)
	if err != nil {
		return store.Blob{}, err
	}
	defer w.Abort()
	f, err := os.Open(path)
	if err != nil {
		return store.Blob{}, s.full(err, w.key, "take file %s", path)
	}
	defer f.Close()
	if err := w.begin(); err != nil { // small files too: what epochs may share isn't stored with each of them
		return store.Blob{}, err
	}
	if _, err := io.Copy(w, f); err != nil {
		return store.Blob{}, s.full(err, w.key, "take file %s", path)
	}
	return w.Finish()
}

// Fetch implements store.Blobs, by copy.
func (s *Store) Fetch(b store.Blob, path string) error {
	r, err := s.ReadBlob(b)
	if err != nil {
		return err
	}
	defer r.Close()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		_, err = io.CopyBuffer(struct{ io.Writer }{f}, io.NewSectionReader(r, 0, r.Size()), make([]byte, min(chunk, b.Size+1)))
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}
	if err != nil {
		return fault.Wrap(fault.StoreFull, err, "bring a blob to %s", path)
	}
	return nil
}

// ReadBlob implements store.Blobs.
func (s *Store) ReadBlob(b store.Blob) (store.Reader, error) {
	if b.File == "" {
		if int64(len(b.Inline)) != b.Size {
			return nil, fault.New(fault.DamagedEpoch, "a blob inside the checkpoint has %d bytes instead of %d", len(b.Inline), b.Size)
		}
		return inlineReader{bytes.NewReader(b.Inline)}, nil
	}
	n, err := int64(0), error(nil)
	if !strings.HasPrefix(b.File, runPrefix) || strings.Contains(b.File, "..") {
		err = fmt.Errorf("%w: not the name of a blob", store.ErrDamaged)
	} else {
		n, err = s.b.Size(s.ctx, b.File)
	}
	if err == nil && n != b.Size {
		err = wrongSize(n, b.Size)
	}
	if err != nil {
		return nil, s.unreadable(err, b.File, "blob")
	}
	return &reader{s: s, key: b.File, size: b.Size}, nil
}

func wrongSize(has, want int64) error {
	return fmt.Errorf("%w: %d bytes instead of %d", store.ErrDamaged, has, want)
}

// checkSizes compares the blobs of a record with listings, which are fewer requests than blobs.
func (s *Store) checkSizes(r *store.Record) error {
	sizes := map[string]int64{}
	listed := map[string]bool{}
	for b := range r.Blobs() {
		if b.File == "" {
			continue
		}
		dir := b.File[:strings.LastIndexByte(b.File, '/')+1]
		if !listed[dir] {
			list, err := s.b.List(s.ctx, dir, "", 0)
			if err != nil {
				return s.unreadable(err, dir, "list of blobs")
			}
			for _, o := range list {
				sizes[o.Key] = o.Size
			}
			listed[dir] = true
		}
		n, ok := sizes[b.File]
		if !ok {
			return s.unreadable(fmt.Errorf("%w: it is gone", store.ErrDamaged), b.File, "blob")
		}
		if n != b.Size {
			return s.unreadable(wrongSize(n, b.Size), b.File, "blob")
		}
	}
	return nil
}

// Verify implements store.Blobs.
func (s *Store) Verify(b store.Blob) error {
	r, err := s.ReadBlob(b)
	if err != nil {
		return err
	}
	defer r.Close()
	var x xxhash.Digest
	x.Reset()
	_, err = io.Copy(&x, io.NewSectionReader(r, 0, r.Size()))
	if err == nil && x.Sum64() != b.Sum {
		err = fmt.Errorf("%w: checksum differs", store.ErrDamaged)
	}
	switch {
	case err == nil:
		return nil
	case b.File == "":
		return fault.Wrap(fault.DamagedEpoch, err, "verify a blob inside the checkpoint")
	default:
		return s.unreadable(err, b.File, "blob")
	}
}

type inlineReader struct{ *bytes.Reader }

func (inlineReader) Close() error { return nil }

// reader reads an object by chunks, the last of which it keeps.
type reader struct {
	s    *Store
	key  string
	size int64

	mu   sync.Mutex // held over a request: who waits would ask for the same chunk
	at   int64
	data []byte
}

func (r *reader) Size() int64  { return r.size }
func (r *reader) Close() error { return nil }

// ReadAt implements io.ReaderAt.
func (r *reader) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		if off >= r.size {
			return n, io.EOF
		}
		m, err := r.copy(p[n:], off)
		if err != nil {
			return n, err
		}
		n, off = n+m, off+int64(m)
	}
	return n, nil
}

func (r *reader) copy(p []byte, off int64) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if off < r.at || off >= r.at+int64(len(r.data)) {
		at := off / chunk * chunk
		data, err := r.s.b.Get(r.s.ctx, r.key, at, min(chunk, r.size-at))
		if err == nil && int64(len(data)) <= off-at {
			err = wrongSize(at+int64(len(data)), r.size)
		}
		if err != nil {
			return 0, r.s.unreadable(err, r.key, "blob")
		}
		r.at, r.data = at, data
	}
	return copy(p, r.data[off-r.at:]), nil
}

// discard marks an object for deletion.
func (s *Store) discard(key string) {
	s.mu.Lock()
	s.garbage = append(s.garbage, key)
	s.mu.Unlock()
}

// collect deletes what was marked. What can't be deleted is tried again. The caller holds pub.
func (s *Store) collect() {
	s.mu.Lock()
	keys := s.garbage
	s.garbage = nil
	s.mu.Unlock()
	if len(keys) == 0 {
		return
	}
	if err := s.b.Delete(s.ctx, keys); err != nil {
		s.log.Warn("can't delete what isn't needed any more", "place", s.b.String(), "objects", len(keys), "error", err)
		s.mu.Lock()
		s.garbage = append(s.garbage, keys...)
		s.mu.Unlock()
	}
}

// sweep marks for deletion what earlier runs left and no retained epoch names, and deletes it. Objects of later runs are
// none of ours: we may have been fenced since.
func (s *Store) sweep() {
	list, err := s.b.List(s.ctx, runPrefix, "", 0)
	if err != nil {
		s.log.Warn("can't list old checkpoints", "place", s.b.String(), "error", err)
		return
	}
	var used []string
	for _, k := range s.known {
		used = append(append(used, k.ref.File), k.files...)
	}
	slices.Sort(used)
	mine := fmt.Sprintf("%s%020d/", runPrefix, s.self.Claim)
	for _, o := range list {
		if _, ok := slices.BinarySearch(used, o.Key); !ok && o.Key < mine {
			s.garbage = append(s.garbage, o.Key)
		}
	}
	s.collect()
}
