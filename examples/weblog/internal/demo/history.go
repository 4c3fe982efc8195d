package demo

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// WriteHistory writes the lines of the seconds up to until into files of an hour each, in dir, which then appears whole.
// If it is there already, nothing is done.
func (l Log) WriteHistory(dir string, until int64) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	temp := dir + ".tmp"
	if err := errors.Join(os.RemoveAll(temp), os.MkdirAll(temp, 0o755)); err != nil {
		return fmt.Errorf("write history: %w", err)
	}
	for from := int64(0); from < until; from += 3600 {
		name := l.Start.Add(time.Duration(from)*time.Second).UTC().Format("access-20060102-150405") + ".log"
		if err := l.writeFile(filepath.Join(temp, name), from, min(from+3600, until)); err != nil {
			return fmt.Errorf("write history: %w", err)
		}
	}
	if err := os.Rename(temp, dir); err != nil {
		return fmt.Errorf("write history: %w", err)
	}
	return nil
}

func (l Log) writeFile(path string, from, to int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	for s := from; s < to; s++ {
		for _, line := range l.Second(s) {
			w.Write(line)     //nolint:errcheck // Flush reports it
			w.WriteByte('\n') //nolint:errcheck // Flush reports it
		}
	}
	return errors.Join(w.Flush(), f.Sync(), f.Close())
}
