package store

import (
	"math"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/weirline/weirline/internal/durable"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// TestFormat1 reads a record that the version before files of backends wrote.
func TestFormat1(t *testing.T) {
	keyed := Blob{File: "epochs/00000000000000000041/b-%43ount-0.blob", Size: 700, Sum: 0xfeedface12345678}
	small := Blob{Inline: []byte{1, 2, 3}, Size: 3, Sum: 99}
	want := &Record{
		Format: 1, Job: "orders", Epoch: 42, Taken: time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC), KeyGroups: 128, End: Suspended,
		Sources: map[string]Source{"in": {Enumerator: []byte("e"), Discovered: true, Splits: []Split{
			{ID: "a\xff", Position: []byte{1}, Watermark: math.MinInt64},
			{ID: "b", Position: []byte{2}, Finished: true, Started: true, Watermark: 17},
		}}},
		Operators: map[string]Operator{"count": {Parallelism: 2, Tasks: []Task{
			{Index: 0, Watermark: 16, Keyed: &keyed, Lists: []string{"l"}, Items: [][]byte{{7}}},
			{Index: 1, Watermark: 17, Keyed: &small, Writer: []byte("w")},
		}}},
		Handles: []sink.Handle{{Operator: "out", Slot: sink.Slot{ID: 2, Name: "orders-out-2"}, Token: "t", Epoch: 42, Native: []byte{2}}},
	}
	data, err := os.ReadFile("testdata/record-1.epoch")
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeRecord(data)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	// What is written now is marked as newer, so that the version before refuses it and doesn't lose its files.
	got.Format = Format
	got.Operators["count"].Tasks[1].Files = []File{{Name: "1.sst", Blob: Blob{File: "f", Size: 1}}}
	got.InFlight = []Flight{{From: "in", Port: "late", To: "count", Index: 1, Blob: small}}
	data, err = EncodeRecord(got)
	if err != nil {
		t.Fatal(err)
	}
	var v1 Record
	err = durable.Decode(magicRecord, 1, data, &v1)
	d := &Dir{root: "r"}
	if fault.CodeOf(d.unreadable(err, "x", "checkpoint")) != fault.NewerFormat.ID {
		t.Errorf("a binary that knows format 1 says %v", err)
	}
	again, err := DecodeRecord(data)
	if err != nil || !reflect.DeepEqual(again, got) {
		t.Errorf("got %+v, %v", again, err)
	}
	var names []string
	for b := range again.Blobs() {
		names = append(names, b.File)
	}
	if !slices.Equal(names, []string{keyed.File, "", "f", ""}) {
		t.Errorf("blobs %q", names)
	}
}
