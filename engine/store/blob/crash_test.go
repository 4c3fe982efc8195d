package blob_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/engine/store/blob"
	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// memory is a Bucket in memory.
type memory struct {
	mu      sync.Mutex
	objects map[string][]byte
}

func newMemory() *memory { return &memory{objects: map[string][]byte{}} }

func (m *memory) String() string { return "mem://test" }

func (m *memory) Create(_ context.Context, key string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.objects[key]; ok {
		return fs.ErrExist
	}
	m.objects[key] = bytes.Clone(data)
	return nil
}

func (m *memory) Get(_ context.Context, key string, off, n int64) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.objects[key]
	if !ok {
		return nil, fs.ErrNotExist
	}
	end := int64(len(data))
	if n >= 0 {
		end = min(end, off+n)
	}
	return bytes.Clone(data[min(off, end):end]), nil
}

func (m *memory) Size(_ context.Context, key string) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.objects[key]
	if !ok {
		return 0, fs.ErrNotExist
	}
	return int64(len(data)), nil
}

func (m *memory) List(_ context.Context, prefix, after string, limit int) (out []blob.Object, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(m.objects)) {
		if strings.HasPrefix(k, prefix) && k > after && (limit == 0 || len(out) < limit) {
			out = append(out, blob.Object{Key: k, Size: int64(len(m.objects[k]))})
		}
	}
	return out, nil
}

func (m *memory) Delete(_ context.Context, keys []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range keys {
		delete(m.objects, k)
	}
	return nil
}

func (m *memory) Put(_ context.Context, key string) (blob.Upload, error) {
	return &memoryUpload{put: func(data []byte) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		if _, ok := m.objects[key]; ok {
			panic("an object was replaced: " + key)
		}
		m.objects[key] = data
		return nil
	}}, nil
}

type memoryUpload struct {
	bytes.Buffer
	put func([]byte) error
}

func (u *memoryUpload) Finish() error { return u.put(bytes.Clone(u.Bytes())) }
func (u *memoryUpload) Abort()        {}

// how an operation of a faulty bucket goes wrong.
type how int

const (
	lost    how = iota // it didn't happen, and the caller can't tell
	applied            // it happened, and the caller can't tell
	denied             // it didn't happen, and the caller is told so
	hows
)

// faulty counts requests and lets some go wrong.
type faulty struct {
	blob.Bucket
	mu     sync.Mutex
	n      int
	from   int // the first request that goes wrong; 0 = none
	to     int // the last one
	how    how
	slow   time.Duration
	failed error
}

func (f *faulty) do(act func() error) error {
	f.mu.Lock()
	f.n++
	bad := f.from > 0 && f.n >= f.from && f.n <= f.to
	f.mu.Unlock()
	if f.slow > 0 {
		time.Sleep(f.slow)
	}
	switch {
	case !bad:
		return act()
	case f.how == applied:
		_ = act() // its answer is lost
		return f.failed
	case f.how == denied:
		return fmt.Errorf("%w: %w", blob.ErrRefused, f.failed)
	}
	return f.failed
}

func (f *faulty) Create(ctx context.Context, key string, data []byte) error {
	return f.do(func() error { return f.Bucket.Create(ctx, key, data) })
}

func (f *faulty) Get(ctx context.Context, key string, off, n int64) (data []byte, err error) {
	err = f.do(func() error { data, err = f.Bucket.Get(ctx, key, off, n); return err })
	return data, err
}

func (f *faulty) Size(ctx context.Context, key string) (n int64, err error) {
	err = f.do(func() error { n, err = f.Bucket.Size(ctx, key); return err })
	return n, err
}

func (f *faulty) List(ctx context.Context, prefix, after string, limit int) (out []blob.Object, err error) {
	err = f.do(func() error { out, err = f.Bucket.List(ctx, prefix, after, limit); return err })
	return out, err
}

func (f *faulty) Delete(ctx context.Context, keys []string) error {
	return f.do(func() error { return f.Bucket.Delete(ctx, keys) })
}

func (f *faulty) Put(ctx context.Context, key string) (blob.Upload, error) {
	u, err := f.Bucket.Put(ctx, key)
	return faultyUpload{u, f}, err
}

type faultyUpload struct {
	blob.Upload
	f *faulty
}

func (u faultyUpload) Finish() error { return u.f.do(u.Upload.Finish) }

// history is what a run was told: what it may rely on after any crash.
type history struct {
	s         *blob.Store
	published uint64 // newest epoch whose Publish returned nil, or that Latest reported
	trying    uint64 // epoch that perhaps is complete
	highest   uint64 // number handed out
	granted   map[string]int
	committed []string
	files     []store.Flight // shared by epochs
	failed    error
}

func options() store.Options { return store.Options{Job: "j", InlineMax: 64, Retain: 2} }

func content(epoch uint64) []byte { return bytes.Repeat([]byte{byte(epoch), byte(epoch >> 8), 7}, 40) }

// script does random things. With stop it ends at the first error, as if the process died there.
func script(b blob.Bucket, seed uint64, steps int, stop bool) *history {
	h := &history{granted: map[string]int{}}
	for range 2 {
		if h.s, h.failed = blob.OpenBucket(b, options()); h.failed == nil || stop {
			break
		}
	}
	if h.s == nil {
		return h
	}
	r := rand.New(rand.NewPCG(seed, 1))
	for range steps {
		if err := h.step(r); err != nil {
			if h.failed = err; stop {
				return h
			}
		}
	}
	return h
}

func (h *history) step(r *rand.Rand) error {
	switch op := r.IntN(8); op {
	case 0:
		name, n := fmt.Sprintf("op%d", r.IntN(3)), r.IntN(20)
		if err := h.s.Grant(name, n); err != nil {
			return err
		}
		h.granted[name] = max(h.granted[name], n)
		return nil
	case 1, 2:
		hs := []sink.Handle{{Token: fmt.Sprint("t", r.Uint64()), Epoch: h.published}, {Token: fmt.Sprint("t", r.Uint64()), Epoch: h.published}}
		if err := h.s.Committed(hs); err != nil {
			return err
		}
		h.committed = append(h.committed, hs[0].Token, hs[1].Token)
		return nil
	case 3:
		n, err := h.number()
		if err == nil {
			_, err = h.blob(n, "declined")
			h.s.Discard(n)
		}
		return err
	default:
		return h.publish()
	}
}

func (h *history) number() (uint64, error) {
	n, err := h.s.NextEpoch()
	if err != nil {
		return 0, err
	}
	if n <= h.highest {
		panic("number handed out twice")
	}
	h.highest = n
	return n, nil
}

func (h *history) blob(epoch uint64, name string) (store.Blob, error) {
	w, err := h.s.Create(epoch, name)
	if err != nil {
		return store.Blob{}, err
	}
	defer w.Abort()
	if _, err := w.Write(content(epoch)); err != nil {
		return store.Blob{}, err
	}
	return w.Finish()
}

func (h *history) publish() error {
	n, err := h.number()
	if err != nil {
		return err
	}
	b, err := h.blob(n, "own")
	if err != nil {
		h.s.Discard(n)
		return err
	}
	files := append(slices.Clone(h.files[max(0, len(h.files)-2):]), store.Flight{Blob: b})
	h.trying = n
	err = h.s.Publish(&store.Record{Epoch: n, InFlight: files})
	switch {
	case err == nil:
		h.published, h.files = n, files
	case errors.Is(err, store.ErrUnknown):
		if latest, settleErr := h.s.Latest(); settleErr == nil {
			h.trying = 0
			if latest != nil {
				h.published, h.files = latest.Epoch, latest.InFlight
			}
		}
	default:
		h.trying = 0
		h.s.Discard(n)
	}
	return err
}

// check opens what is left and compares it with what the run was told. The older owner is fenced by that.
func (h *history) check(t *testing.T, b blob.Bucket) {
	t.Helper()
	s, err := blob.OpenBucket(b, options())
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	defer s.Close()
	rec, err := s.Latest()
	if err != nil {
		t.Fatalf("latest: %v", err)
	}
	got := uint64(0)
	if rec != nil {
		got = rec.Epoch
		for b := range rec.Blobs() {
			if err := s.Verify(b); err != nil {
				t.Fatalf("verify: %v", err)
			}
		}
	}
	if got != h.published && (got != h.trying || got == 0) {
		t.Fatalf("newest epoch is %d, want %d or %d", got, h.published, h.trying)
	}
	for op, n := range h.granted {
		if s.Granted()[op] < n {
			t.Errorf("grant of %d slots to %s is lost: %v", n, op, s.Granted())
		}
	}
	for _, tok := range h.committed {
		if !s.IsCommitted(tok) {
			t.Errorf("commit of %q is lost", tok)
		}
	}
	if n, err := s.NextEpoch(); err != nil || n <= h.highest {
		t.Errorf("next epoch is %d after %d (%v)", n, h.highest, err)
	}
	if h.s == nil {
		return
	}
	_, err = h.s.Latest()
	for _, err := range []error{err, h.s.Grant("late", 1), h.s.Committed([]sink.Handle{{Token: "late"}}), h.publish()} {
		if fault.CodeOf(err) != fault.Fenced.ID {
			t.Fatalf("the older owner was told %v", err)
		}
	}
	if s.Granted()["late"] != 0 || s.IsCommitted("late") {
		t.Error("what a fenced owner wrote is visible")
	}
}

func newSeed(t *testing.T) uint64 {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("WEIRLINE_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("seed %d", seed)
	return seed
}

// requestsFail lets each stride-th request of a random run go wrong in each way: once, for a while, and from then on for ever.
func requestsFail(t *testing.T, steps, stride int, bucket func() blob.Bucket) {
	seed := newSeed(t)
	whole := &faulty{Bucket: bucket()}
	if h := script(whole, seed, steps, true); h.failed != nil {
		t.Fatalf("run without faults: %v", h.failed)
	}
	for at := 1 + int(seed)%stride; at <= whole.n; at += stride {
		for how := range hows {
			for _, length := range []int{1, 6, 1 << 30} {
				bubble.Test(t, func(t *testing.T) {
					f := &faulty{Bucket: bucket(), from: at, to: at + length - 1, how: how, failed: errors.New("broken pipe")}
					h := script(f, seed, steps, length == 1<<30)
					f.from = 0
					if h.check(t, f); t.Failed() {
						t.Fatalf("request %d of %d, way %d, %d requests, seed %d", at, whole.n, how, length, seed)
					}
				})
			}
		}
	}
}

func TestAnyRequestFails(t *testing.T) {
	requestsFail(t, 30, 1, func() blob.Bucket { return newMemory() })
}

func TestAnyRequestFailsInDirectory(t *testing.T) {
	dir, n := t.TempDir(), 0
	requestsFail(t, 15, 25, func() blob.Bucket {
		n++
		return blob.File{Root: filepath.Join(dir, strconv.Itoa(n))}
	})
}
