package files_test

import (
	"context"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/weirline/weirline/connector/files"
	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/sink/parts"
	"github.com/weirline/weirline/sink/parts/parquet"
)

type Order struct {
	ID       int64     `json:"id" parquet:"id"`
	At       time.Time `json:"at" parquet:"at,timestamp(microsecond)"`
	Customer string    `json:"customer" parquet:"customer,dict"`
	Total    float64   `json:"total" parquet:"total"`
}

func orderTime(o Order) time.Time { return o.At }

// Orders go into files by the hour they were made in, each exactly once.
func ExampleTxSink_buckets() {
	dir, err := os.MkdirTemp("", "orders-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "out")
	if err := os.Mkdir(out, 0o755); err != nil {
		log.Fatal(err)
	}

	start := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	p := engine.New(engine.Config{Name: "shop", Dir: filepath.Join(dir, "state"), Parallelism: 1})
	orders := engine.From(p, "orders", gen.Source[Order]{
		Make:  func(seq int64) Order { return Order{seq, start.Add(time.Duration(seq) * time.Minute), "ann", 9.5} },
		Count: 100,
	})
	engine.ToTx(orders, "orders-out", files.TxSink[Order]{
		Dir:          out,
		Format:       parts.JSON[Order]{},
		Bucket:       parts.ByTime(orderTime, parts.ByHour),
		CompactBelow: 16 << 20,
	})
	if err := p.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
	show(out)
	// Output:
	// dt=2026-01-02/hour=03/part-orders-out-<epoch>-<slot>-<token>-0000.jsonl
	// dt=2026-01-02/hour=04/part-orders-out-<epoch>-<slot>-<token>-0001.jsonl
}

var unique = regexp.MustCompile(`-\d{12}-\d+-[0-9a-f]{32}-`)

func show(dir string) {
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name()[0] == '.' {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		fmt.Println(unique.ReplaceAllString(filepath.ToSlash(rel), "-<epoch>-<slot>-<token>-"))
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
}

// A bucket can be made of anything in the record. What comes from outside is escaped, so that no record chooses a path.
func ExampleTxSink_csv() {
	day := parts.ByTime(orderTime, "dt=2006-01-02")
	out := files.TxSink[Order]{
		Dir: os.TempDir(),
		Format: parts.CSV[Order]{
			Header: []string{"id", "customer", "total"},
			Row: func(r *parts.Row, o Order) error {
				r.Int(o.ID)
				r.Text(o.Customer)
				r.Float(o.Total)
				return nil
			},
		},
		Bucket: func(dst []byte, o Order) []byte {
			return parts.AppendEscaped(append(day(dst, o), "/customer="...), o.Customer)
		},
		Rolling: parts.Rolling{Size: 256 << 20, Age: 10 * time.Minute},
		MaxOpen: 200,
	}
	if err := out.Validate(); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", out.Bucket(nil, Order{Customer: "../ann & bob"}))
	// Output:
	// dt=0001-01-01/customer=..%2Fann%20%26%20bob
}

// Parquet takes its columns from the struct.
func ExampleTxSink_parquet() {
	out := files.TxSink[Order]{
		Dir:          os.TempDir(),
		Format:       parquet.Format[Order]{RowGroup: 16 << 20},
		Bucket:       parts.ByTime(orderTime, "dt=2006-01-02"),
		MaxOpen:      8, // each holds up to a row group in memory
		CompactBelow: 64 << 20,
	}
	if err := out.Validate(); err != nil {
		log.Fatal(err)
	}
}
