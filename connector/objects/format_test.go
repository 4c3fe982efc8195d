package objects

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/parts"
	format "github.com/weirline/weirline/sink/parts/parquet"
	"github.com/weirline/weirline/txn/txntest"
)

type sale struct {
	ID   int64     `json:"id" parquet:"id"`
	At   time.Time `json:"at" parquet:"at,timestamp(microsecond)"`
	Note string    `json:"note" parquet:"note"`
}

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// salesOf are n of them in three hours, most in the first, with notes that no compression makes short.
func salesOf(n int) (out []sale) {
	z := uint64(1)
	for i := range n {
		var note []byte
		for range 40 {
			z ^= z << 13
			z ^= z >> 7
			z ^= z << 17
			note = strconv.AppendUint(note, z, 36)
		}
		out = append(out, sale{int64(i), noon.Add(time.Duration(max(0, i%10-7)) * time.Hour), string(note)})
	}
	return out
}

// reader gives the sales of an object.
type reader func(text string) ([]sale, error)

func readJSON(text string) (out []sale, err error) {
	for line := range strings.Lines(text) {
		var s sale
		err = errors.Join(err, json.Unmarshal([]byte(line), &s))
		out = append(out, s)
	}
	return out, err
}

func readCSV(text string) (out []sale, err error) {
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil || len(rows) == 0 || fmt.Sprint(rows[0]) != "[id at note]" {
		return nil, fmt.Errorf("no header: %w", err)
	}
	for _, r := range rows[1:] {
		id, ierr := strconv.ParseInt(r[0], 10, 64)
		at, terr := time.Parse(time.RFC3339, r[1])
		err = errors.Join(err, ierr, terr)
		out = append(out, sale{id, at, r[2]})
	}
	return out, err
}

func readParquet(text string) ([]sale, error) {
	return parquet.Read[sale](bytes.NewReader([]byte(text)), int64(len(text)))
}

// TestFormats writes objects of more than a part in each format, into folders by time, and reads them back.
func TestFormats(t *testing.T) {
	srv := testsvc.S3(t)
	for ext, c := range map[string]struct {
		format parts.Format[sale]
		read   reader
	}{
		".jsonl": {parts.JSON[sale]{}, readJSON},
		".csv": {parts.CSV[sale]{Header: []string{"id", "at", "note"}, Row: func(r *parts.Row, s sale) error {
			r.Int(s.ID)
			r.Text(s.At.Format(time.RFC3339))
			r.Text(s.Note)
			return nil
		}}, readCSV},
		".parquet": {format.Format[sale]{RowGroup: 2 * mib}, readParquet},
	} {
		t.Run(ext, func(t *testing.T) {
			plain := place(srv.Addr)
			s := TxSink[sale]{
				Bucket: plain.Bucket, Prefix: plain.Prefix, Endpoint: plain.Endpoint, AccessKey: plain.AccessKey, SecretKey: plain.SecretKey,
				Format: c.format, Folder: parts.ByTime(func(s sale) time.Time { return s.At }, parts.ByHour), PartSize: 5 * mib,
			}
			w, com := open(t, s)
			rs := salesOf(15_000) // 6 MiB in the first hour
			in := map[string][]sale{}
			for _, r := range rs {
				folder := r.At.Format("/dt=2006-01-02/hour=15/")
				in[folder] = append(in[folder], r)
			}
			h := txntest.Prepare(t, w, txntest.Slot(t, 1), 1, rs...)
			n, err := readNative(h)
			if err != nil || len(n.Objects) != 3 || len(n.Objects[0].Parts) != 2 {
				t.Fatalf("handle %+v, %v; want three objects, the first of two parts", n, err)
			}
			if err := com.Commit(t.Context(), []sink.Handle{h}); err != nil {
				t.Fatal(err)
			}
			all, err := srv.Objects(t.Context(), s.Prefix+"/")
			if err != nil || len(all) != 3 {
				t.Fatalf("%d objects, %v", len(all), err)
			}
			seen := 0
			for key, text := range all {
				if path.Ext(key) != ext {
					t.Errorf("object %s", key)
				}
				want := in[path.Dir(strings.TrimPrefix(key, s.Prefix))+"/"]
				got, err := c.read(text)
				if err != nil || len(got) != len(want) {
					t.Fatalf("%s: %d records, %v, want %d", key, len(got), err, len(want))
				}
				for i, v := range got {
					if v.ID != want[i].ID || v.Note != want[i].Note || !v.At.Equal(want[i].At) {
						t.Fatalf("%s: record %d is %+v, want %+v", key, i, v, want[i])
					}
					seen++
				}
			}
			if seen != len(rs) {
				t.Errorf("%d records, want %d", seen, len(rs))
			}
		})
	}
}
