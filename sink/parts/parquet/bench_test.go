package parquet

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/weirline/weirline/sink/parts"
)

type sale struct {
	ID    int64   `json:"id" parquet:"id"`
	Shop  string  `json:"shop" parquet:"shop"`
	Total float64 `json:"total" parquet:"total"`
}

const benchRecords = 10_000

func sales() []sale {
	out := make([]sale, benchRecords)
	for i := range out {
		out[i] = sale{int64(i) * 7919, "shop number " + strconv.Itoa(i%997), float64(i) / 8}
	}
	return out
}

// encode writes one file.
func encode[T any](f parts.Format[T], vs []T) error {
	e, err := f.Encoder()
	if err != nil {
		return err
	}
	err = e.Begin(io.Discard)
	for i := range vs {
		err = errors.Join(err, e.Append(vs[i]))
	}
	return errors.Join(err, e.End())
}

// BenchmarkEncode has each format beside the library it stands on, where there is one.
func BenchmarkEncode(b *testing.B) {
	vs := sales()
	row := func(r *parts.Row, s sale) error {
		r.Int(s.ID)
		r.Text(s.Shop)
		r.Float(s.Total)
		return nil
	}
	for _, c := range []struct {
		name string
		run  func() error
	}{
		{"format=text", func() error {
			return encode(parts.Text[sale]{Encode: func(dst []byte, s sale) []byte { return append(append(dst, s.Shop...), '\n') }}, vs)
		}},
		{"format=csv", func() error { return encode(parts.CSV[sale]{Row: row}, vs) }},
		{"format=csv/limit", func() error {
			w := csv.NewWriter(io.Discard)
			fields := make([]string, 3)
			for _, s := range vs {
				fields[0], fields[1], fields[2] = strconv.FormatInt(s.ID, 10), s.Shop, strconv.FormatFloat(s.Total, 'g', -1, 64)
				if err := w.Write(fields); err != nil {
					return err
				}
			}
			w.Flush()
			return w.Error()
		}},
		{"format=json", func() error { return encode(parts.JSON[sale]{}, vs) }},
		{"format=json/limit", func() error {
			w := json.NewEncoder(io.Discard)
			for i := range vs {
				if err := w.Encode(&vs[i]); err != nil {
					return err
				}
			}
			return nil
		}},
		{"format=parquet", func() error { return encode(Format[sale]{}, vs) }},
		{"format=parquet/limit", func() error {
			w := parquet.NewGenericWriter[sale](io.Discard, parquet.Compression(&parquet.Snappy))
			_, err := w.Write(vs)
			return errors.Join(err, w.Close())
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if err := c.run(); err != nil {
					b.Fatal(err)
				}
				n += len(vs)
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds()/1e6, "Mrec/s")
		})
	}
}
