package durable

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

const magic = "testTST\n"

func TestFrames(t *testing.T) {
	type thing struct {
		A string `cbor:"1,keyasint"`
	}
	data, err := Encode(magic, 2, thing{"a\xff"})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "f")
	for range 2 { // the second time it is replaced
		if err := Replace(OS, name, data); err != nil {
			t.Fatal(err)
		}
	}
	again, err := ReadFile(OS, name)
	if err != nil || !bytes.Equal(again, data) {
		t.Fatalf("read %x, %v", again, err)
	}
	var got thing
	if err := Decode(magic, 2, again, &got); err != nil || got.A != "a\xff" {
		t.Errorf("got %q, %v", got, err)
	}
	if newer, ok := errors.AsType[*NewerError](Decode(magic, 1, data, &got)); !ok || newer.Error() != "format version 2, this binary reads up to 1" {
		t.Errorf("a newer version is %v", newer)
	}
	for i := range data {
		bad := bytes.Clone(data)
		bad[i] ^= 1
		if err := Decode(magic, 2, bad, &got); !errors.Is(err, ErrDamaged) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		if err := Decode(magic, 2, data[:i], &got); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
	if _, err := os.Stat(name + TempSuffix); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the temporary file is left: %v", err)
	}
}

func TestJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	open := func() *Journal { return &Journal{FS: OS, Path: path, Kind: "things", Job: "job \"1\"\n"} }
	var lines []string
	all := func() []string { return slices.Clone(lines) }
	j := open()
	for _, l := range []string{"one", "", "three \xff"} {
		if err := j.Append(l, all); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) + 1 {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := open().Read()
		switch {
		case cut == len(whole) && (err != nil || c.Torn || !slices.Equal(c.Lines, lines) || c.Job != j.Job):
			t.Errorf("whole: %q of %q, torn %v, %v", c.Lines, c.Job, c.Torn, err)
		case err != nil && !errors.Is(err, ErrDamaged):
			t.Errorf("cut at %d: %v", cut, err)
		case len(c.Lines) > len(lines) || !slices.Equal(c.Lines, lines[:len(c.Lines)]):
			t.Errorf("cut at %d: %q", cut, c.Lines)
		}
	}
	if _, err := ParseJournal("others", whole); !errors.Is(err, ErrDamaged) {
		t.Errorf("a journal of another kind: %v", err)
	}
	bad := bytes.Clone(whole)
	bad[bytes.Index(bad, []byte("one"))] = 'O'
	if c, err := ParseJournal("things", bad); !errors.Is(err, ErrDamaged) || !slices.Equal(c.Lines, lines[1:]) {
		t.Errorf("of a damaged journal %q are whole, %v", c.Lines, err)
	}
	if c, err := ParseJournal("things", bytes.Replace(whole, []byte(" 1 "), []byte(" 9 "), 1)); err == nil {
		t.Errorf("a first line with another sum is taken: %q", c.Lines)
	}
}

// TestLock has two holders of one lock.
func TestLock(t *testing.T) {
	name := filepath.Join(t.TempDir(), "claim")
	first, err := OS.Lock(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Replace([]byte("me")); err != nil {
		t.Error(err)
	}
	if _, err := OS.Lock(name); !errors.Is(err, ErrLocked) {
		t.Errorf("a second holder: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	second, err := OS.Lock(name)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(name); err != nil || string(b) != "me" {
		t.Errorf("the file says %q, %v", b, err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
}
