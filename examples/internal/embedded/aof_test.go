package embedded

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

var logEntries = []entry{
	{at: 1, seed: 1, db: 0, cmds: [][]string{{"SET", "k", ""}}},
	{at: 1 << 50, seed: 2, db: 15, cmds: [][]string{{"MULTI"}, {"INCR", "\x00\r\n"}, {"EXEC"}}},
	{at: 1 << 50, seed: 3, db: 3, cmds: [][]string{{"DEL", "k", string(bytes.Repeat([]byte("x"), 300))}}},
}

func readBytes(t *testing.T, b []byte) (entries []entry, torn int64, err error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	torn, err = readLog(path, func(e entry) error {
		entries = append(entries, e)
		return nil
	})
	return entries, torn, err
}

func TestReadLogCutAnywhere(t *testing.T) {
	var b []byte
	ends := []int{0}
	for _, e := range logEntries {
		b = append(b, e.encode()...)
		ends = append(ends, len(b))
	}
	whole := 0
	for n := range len(b) + 1 {
		if whole < len(logEntries) && n == ends[whole+1] {
			whole++
		}
		got, torn, err := readBytes(t, b[:n])
		if err != nil || torn != int64(n-ends[whole]) {
			t.Fatalf("first %d bytes: %d torn, %v; want %d torn", n, torn, err, n-ends[whole])
		}
		if whole > 0 && !reflect.DeepEqual(got, logEntries[:whole]) || len(got) != whole {
			t.Fatalf("first %d bytes: got %+v", n, got)
		}
	}
}

func TestReadLogDamaged(t *testing.T) {
	first := logEntries[0].encode()
	last := logEntries[1].encode()
	damaged := bytes.Clone(last)
	damaged[len(damaged)-1] ^= 1
	if got, torn, err := readBytes(t, append(bytes.Clone(first), damaged...)); err != nil || len(got) != 1 || torn != int64(len(last)) {
		t.Errorf("damage at the end: %d entries, %d torn, %v", len(got), torn, err)
	}
	if _, _, err := readBytes(t, append(damaged, first...)); err == nil {
		t.Error("damage in the middle isn't an error")
	}
}
