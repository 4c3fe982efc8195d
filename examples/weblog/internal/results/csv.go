package results

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// WriteCSV writes rows into a file that appears whole: header minute,page,pv,uv, minutes in RFC 3339 UTC. each calls its
// argument with every row, in the order they are to stand in.
func WriteCSV(path string, each func(func(Row) error) error) error {
	temp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp") // one name: what a crash left is written over
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	err = errors.Join(writeRows(f, each), f.Close())
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write results: %w", err), os.Remove(temp))
	}
	return nil
}

func writeRows(f *os.File, each func(func(Row) error) error) error {
	buf := bufio.NewWriter(f)
	w := csv.NewWriter(buf)
	if err := w.Write([]string{"minute", "page", "pv", "uv"}); err != nil {
		return err
	}
	err := each(func(r Row) error {
		return w.Write([]string{
			time.Unix(r.Minute, 0).UTC().Format(time.RFC3339), r.Page,
			strconv.FormatInt(r.Views, 10), strconv.FormatInt(r.Visitors, 10),
		})
	})
	w.Flush()
	return errors.Join(err, w.Error(), buf.Flush(), f.Sync())
}
