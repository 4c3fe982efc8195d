package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/engine/store/storetest"
	"github.com/weirline/weirline/internal/fault"
)

func ops(files ...store.File) map[string]store.Operator {
	empty := store.Blob{Sum: 0xef46db3751d8e999} // xxhash64 of nothing
	return map[string]store.Operator{"count": {Parallelism: 1, Tasks: []store.Task{{Backend: "tables", Keyed: &empty, Files: files}}}}
}

func mustAdopt(t *testing.T, d store.Store, epoch, of uint64, path string) store.File {
	t.Helper()
	b, err := d.Adopt(epoch, fmt.Sprint("table ", of), path)
	if err != nil {
		t.Fatal(err)
	}
	if b.File == "" || b.Size != int64(len(content(of))) {
		t.Fatalf("adopted as %+v", b)
	}
	return store.File{Name: fmt.Sprint(of), Blob: b}
}

func mustPublishFiles(t *testing.T, d store.Store, files ...store.File) uint64 {
	t.Helper()
	n, err := d.NextEpoch()
	if err == nil {
		err = d.Publish(&store.Record{Epoch: n, Operators: ops(files...)})
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestAdoptFetch takes files by link and by copy, and brings them back both ways.
func TestAdoptFetch(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "000001.sst")
	if err := os.WriteFile(path, content(7), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]store.Options{
		"linked": {Job: "j"},
		"copied": options(storetest.NewDisk()), // another file system
	} {
		t.Run(name, func(t *testing.T) {
			root := filepath.Join(dir, name)
			if name == "copied" {
				root = "/state"
			}
			d := open(t, root, o)
			n, _ := d.NextEpoch()
			f := mustAdopt(t, d, n, 7, path)
			if err := d.Publish(&store.Record{Epoch: n, Operators: ops(f)}); err != nil {
				t.Fatal(err)
			}
			checkBlob(t, d, f.Blob, 7)
			to := filepath.Join(dir, "back-"+name)
			if err := d.Fetch(f.Blob, to); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, content(7)) {
				t.Errorf("fetched %x, %v", got, err)
			}
			if name == "linked" {
				a, _ := os.Stat(path)
				b, _ := os.Stat(to)
				if !os.SameFile(a, b) {
					t.Error("the file was copied where it could be linked")
				}
			}
			inline := store.Blob{Inline: []byte{1, 2}, Size: 2}
			if err := d.Fetch(inline, to+"-inline"); err != nil {
				t.Fatal(err)
			}
			if got, _ := os.ReadFile(to + "-inline"); !bytes.Equal(got, inline.Inline) {
				t.Errorf("inline blob fetched as %x", got)
			}
			wantCode(t, d.Fetch(f.Blob, to), fault.StoreFull, to) // exists
			f.Blob.Size++
			wantCode(t, d.Fetch(f.Blob, to+"-size"), fault.DamagedEpoch, f.Blob.File)
			n, _ = d.NextEpoch()
			_, err := d.Adopt(n, "x", path+"-absent")
			wantCode(t, err, fault.StoreFull, path+"-absent")
			_, err = d.Adopt(n-1, "late", path)
			if err == nil {
				t.Error("a complete epoch took a file")
			}
		})
	}
}

// TestAdoptKeepsTheCallersFile lets the link happen and report an error all the same: what follows must not write through it.
func TestAdoptKeepsTheCallersFile(t *testing.T) {
	disk := storetest.NewDisk()
	d := open(t, "/state", options(disk))
	n, _ := d.NextEpoch()
	src, err := writeOn(disk, 7)
	if err != nil {
		t.Fatal(err)
	}
	lost := errors.New("answer lost")
	disk.FailAt(2, lost, true, false) // mkdir, link
	if _, err := d.Adopt(n, "table", src); !errors.Is(err, lost) {
		t.Fatalf("got %v", err)
	}
	f, err := disk.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	if size, _ := f.Size(); size != int64(len(content(7))) {
		t.Errorf("the caller's file has %d bytes", size)
	}
	if got := mustAdopt(t, d, n, 7, src); got.Blob.Size != int64(len(content(7))) {
		t.Errorf("second try gave %+v", got)
	}
}

func blobsOn(disk *storetest.Disk) int {
	return strings.Count(strings.Join(disk.Files(), " "), ".blob")
}

// TestSharedFiles follows a file through the epochs that name it: retention, reopening, a declined epoch, a late finish.
func TestSharedFiles(t *testing.T) {
	disk := storetest.NewDisk()
	d := open(t, "/state", options(disk)) // two epochs are kept
	adopt := func(of uint64) store.File {
		n, _ := d.NextEpoch()
		src, err := writeOn(disk, of)
		if err != nil {
			t.Fatal(err)
		}
		f := mustAdopt(t, d, n, of, src)
		if err := errors.Join(d.Publish(&store.Record{Epoch: n, Operators: ops(f)}), disk.Remove(src)); err != nil {
			t.Fatal(err)
		}
		return f
	}
	reopen := func() {
		_ = d.Close()
		disk = disk.Crash(nil)
		d = open(t, "/state", options(disk))
	}
	a := adopt(1)
	b := adopt(2)
	for range 4 { // the epochs that made them are long gone
		mustPublishFiles(t, d, a, b)
	}
	reopen()
	checkLatest(t, d)

	// A declined epoch takes the same file under a name of its own, and one task finishes after the end.
	n, _ := d.NextEpoch()
	path := "/again"
	if err := disk.Link("/state/"+a.Blob.File, path); err != nil {
		t.Fatal(err)
	}
	own := mustAdopt(t, d, n, 1, path)
	late, err := d.Create(n, "late")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = late.Write(content(3))
	d.Discard(n)
	next, _ := d.NextEpoch()
	if err := d.Publish(&store.Record{Epoch: next, Operators: ops(own)}); err == nil {
		t.Error("a record names a file of a declined epoch")
	}
	d.Discard(next)
	mustPublishFiles(t, d, a, b)
	lateBlob, err := late.Finish()
	if err != nil {
		t.Fatal(err)
	}
	n, _ = d.NextEpoch()
	if err := d.Publish(&store.Record{Epoch: n, Operators: ops(store.File{Name: "3", Blob: lateBlob})}); err == nil {
		t.Error("a record names what was finished after its epoch had been declined")
	}
	d.Discard(n)
	mustPublishFiles(t, d, b)
	checkLatest(t, d)
	reopen()
	checkLatest(t, d)
	mustPublishFiles(t, d, b) // no retained epoch names a any more
	if got := blobsOn(disk); got != 1 {
		t.Errorf("%d blobs are left: %q", got, disk.Files())
	}
}
