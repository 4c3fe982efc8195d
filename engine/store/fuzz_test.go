package store

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"

	"github.com/weirline/weirline/internal/durable"
	"github.com/weirline/weirline/sink"
)

func sample(f *testing.F) []byte {
	f.Helper()
	b, err := EncodeRecord(&Record{
		Format: 1, Job: "j", Epoch: 7, Taken: time.Unix(9, 5000).UTC(), KeyGroups: 128,
		Sources:   map[string]Source{"in": {Splits: []Split{{ID: "a\xff", Position: []byte{1}, Watermark: -1 << 63}}}},
		Operators: map[string]Operator{"o": {Parallelism: 1, Tasks: []Task{{Backend: "b", Files: []File{{Name: "1.sst", Blob: Blob{File: "x", Size: 2}}}}}}},
		Handles:   []sink.Handle{{Operator: "out", Token: "t", Epoch: 7, Native: []byte{2}}},
	})
	if err != nil {
		f.Fatal(err)
	}
	return b
}

// fuzzFrame holds for every framed file: no panic, and any one changed byte is an error.
func fuzzFrame(f *testing.F, whole []byte, decode func([]byte) ([]byte, error)) {
	f.Add(whole, uint(3), byte(1))
	f.Fuzz(func(t *testing.T, data []byte, at uint, flip byte) {
		again, err := decode(data)
		if err != nil {
			return
		}
		if _, err := decode(again); err != nil {
			t.Fatalf("what was read can't be read again: %v", err)
		}
		bad := bytes.Clone(data)
		bad[at%uint(len(bad))] ^= flip | 1
		if _, err := decode(bad); err == nil {
			t.Fatalf("byte %d changed unnoticed", at%uint(len(bad)))
		}
		if _, err := decode(data[:at%uint(len(data))]); err == nil {
			t.Fatalf("cut at %d unnoticed", at%uint(len(data)))
		}
	})
}

func FuzzRecord(f *testing.F) {
	fuzzFrame(f, sample(f), func(b []byte) ([]byte, error) {
		r, err := DecodeRecord(b)
		if err != nil {
			return nil, err
		}
		for range r.Blobs() {
		}
		return EncodeRecord(r)
	})
}

func FuzzPointer(f *testing.F) {
	p := pointer{Job: "j", Epoch: 7, File: recordPath(7), Sum: 1, Kept: []uint64{3, 5}}
	whole, err := durable.Encode(magicPointer, pointerFormat, p)
	if err != nil {
		f.Fatal(err)
	}
	fuzzFrame(f, whole, func(b []byte) ([]byte, error) {
		p, err := decodePointer(b)
		if err != nil {
			return nil, err
		}
		return durable.Encode(magicPointer, pointerFormat, p)
	})
}

// fuzzJournal adds data behind whole lines and changes one byte of whole lines.
func fuzzJournal(f *testing.F, kind string, lines []string, parse func([]string) (int, error)) {
	write := func(j *durable.Journal) []byte {
		if err := j.Rewrite(lines); err != nil {
			f.Fatal(err)
		}
		b, err := durable.ReadFile(j.FS, j.Path)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	whole := write(&durable.Journal{FS: durable.OS, Path: filepath.Join(f.TempDir(), kind), Kind: kind, Job: "j\xff"})
	f.Add([]byte("0000"), uint(3), byte(1))
	f.Add(whole, uint(len(whole)-1), byte(4))
	f.Fuzz(func(t *testing.T, tail []byte, at uint, flip byte) {
		for _, b := range [][]byte{tail, append(bytes.Clone(whole), tail...)} {
			if c, err := durable.ParseJournal(kind, b); err == nil {
				_, _ = parse(c.Lines)
			}
		}
		i := at % uint(len(whole))
		c, err := durable.ParseJournal(kind, whole[:i])
		if err == nil && len(c.Lines) > 0 && c.Lines[0] != lines[0] {
			t.Fatalf("cut at %d gives %q", i, c.Lines)
		}
		bad := bytes.Clone(whole)
		bad[i] ^= flip | 1
		c, err = durable.ParseJournal(kind, bad)
		if err == nil && bad[i] != 0 {
			n, parseErr := parse(c.Lines)
			// A length field that grew in the last line looks like a torn append; hex digits have two cases.
			lastHead := uint(bytes.LastIndexByte(whole[:len(whole)-1], '\n')) + 1
			if bytes.EqualFold(bad, whole) || i >= lastHead && c.Torn {
				return
			}
			t.Fatalf("byte %d changed unnoticed: %d entries, %v", i, n, parseErr)
		}
	})
}

func FuzzGrants(f *testing.F) {
	fuzzJournal(f, grantsName, []string{grantLine("a \"\n\xff", 3), grantLine("b", 9)}, func(l []string) (int, error) {
		m, err := parseGrants(l)
		return len(m), err
	})
}

func FuzzCommits(f *testing.F) {
	l := commitLine(commitLine(nil, "t\n\x00", 3), "u", 4)
	fuzzJournal(f, commitsName, []string{string(l), `5 "v"`}, func(l []string) (int, error) {
		m, err := parseCommits(l)
		return len(m), err
	})
}
