package results

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/weirline/weirline/connector/redis"
	"github.com/weirline/weirline/sink"
)

// write sends rows as the job does.
func write[T any](t *testing.T, addr, prefix string, do func(T, *redis.Cmds, time.Duration) error, rows ...T) {
	t.Helper()
	w, err := redis.Sink[T]{Addr: addr, Prefix: prefix, Do: func(v T, c *redis.Cmds) error { return do(v, c, time.Hour) }}.
		Writer(t.Context(), sink.Task{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestWriteAndReadBack(t *testing.T) {
	server := miniredis.RunT(t)
	db := Open(server.Addr(), "", "p:", time.Hour)
	defer db.Close()
	rows := []Row{
		{Minute: 60, Page: `a"b,c`, Views: 2, Visitors: 1},
		{Minute: 60, Page: AllPages, Views: 3, Visitors: 2},
		{Minute: -120, Page: AllPages, Views: 1, Visitors: 1},
		{Minute: -120, Page: "", Views: 1, Visitors: 1},
		{Minute: 60, Page: "new\nline", Views: 1, Visitors: 1},
	}
	write(t, server.Addr(), "p:", Store, rows...)
	write(t, server.Addr(), "p:", Store, rows...) // again changes nothing

	path := filepath.Join(t.TempDir(), "out.csv")
	if err := WriteCSV(path, func(f func(Row) error) error { return db.Each(t.Context(), f) }); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := "minute,page,pv,uv\n1969-12-31T23:58:00Z,,1,1\n1969-12-31T23:58:00Z,*,1,1\n" +
		"1970-01-01T00:01:00Z,*,3,2\n1970-01-01T00:01:00Z,\"a\"\"b,c\",2,1\n1970-01-01T00:01:00Z,\"new\nline\",1,1\n"
	if string(got) != want {
		t.Errorf("file:\n%s\nwant:\n%s", got, want)
	}
	newest, err := db.Newest(t.Context(), 1)
	if err != nil || len(newest) != 1 || newest[0] != rows[1] {
		t.Errorf("Newest = %+v, %v", newest, err)
	}
	for _, key := range server.Keys() {
		if server.TTL(key) <= 0 {
			t.Errorf("key %q never expires", key)
		}
	}
}

// A file is written whole or not at all.
func TestFailedFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out.csv")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := WriteCSV(path, func(f func(Row) error) error { return os.ErrInvalid }); err == nil {
		t.Error("no error")
	}
	names, err := os.ReadDir(dir)
	if b, _ := os.ReadFile(path); err != nil || string(b) != "old" || len(names) != 1 {
		t.Errorf("%d files, content %q, %v", len(names), b, err)
	}
}

func TestTally(t *testing.T) {
	var tally Tally
	for _, at := range []int64{5, 6, 6, 9, 10} {
		tally.Take(3, at, at == 9)
	}
	want := Tally{From: 3, Lines: 5, Skipped: 1, First: 5, Next: 11, Missing: 2, Doubled: 1}
	if tally != want {
		t.Errorf("tally %+v, want %+v", tally, want)
	}
	server := miniredis.RunT(t)
	files := Tally{From: Files, Lines: 7}
	write(t, server.Addr(), "", StoreTally, want, files)
	db := Open(server.Addr(), "", "", time.Hour)
	defer db.Close()
	got, err := db.Tallies(t.Context())
	if err != nil || len(got) != 2 || got[0] != files || got[1] != want {
		t.Errorf("Tallies = %+v, %v", got, err)
	}
}

func TestOwn(t *testing.T) {
	server := miniredis.RunT(t)
	db := Open(server.Addr(), "", "p:", time.Hour)
	defer db.Close()
	write(t, server.Addr(), "p:", Store, Row{Minute: 60, Page: AllPages})
	write(t, server.Addr(), "q:", Store, Row{Minute: 60, Page: AllPages})
	for _, step := range []struct {
		run   string
		fresh bool
		taken bool
	}{{"one", true, false}, {"one", false, false}, {"two", false, true}, {"two", true, false}, {"one", false, true}} {
		if err := db.Own(t.Context(), step.run, step.fresh); (err != nil) != step.taken {
			t.Errorf("%+v: %v", step, err)
		}
	}
	if server.Exists("p:minutes") || server.Exists("p:minute:60") || !server.Exists("q:minute:60") {
		t.Errorf("keys %v", server.Keys())
	}
	server.Del("p:owner") // expired
	if err := db.Own(t.Context(), "one", false); err != nil {
		t.Errorf("no owner: %v", err)
	}
}
