package topic

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/internal/fault"
)

func broker(t *testing.T) []string {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "t"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c.ListenAddrs()
}

func open(t *testing.T, brokers []string) *Topic {
	t.Helper()
	topic, err := Open(t.Context(), brokers, "t")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(topic.Close)
	return topic
}

func linesOf(n int) Lines {
	return func(f func([]byte) error) error {
		for i := range n {
			if err := f(fmt.Appendf(nil, "line %d", i)); err != nil {
				return err
			}
		}
		return nil
	}
}

// content reads the partitions.
func content(t *testing.T, brokers []string, n int) [3][]string {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var out [3][]string
	for n > 0 {
		got := c.PollFetches(t.Context())
		if err := got.Err(); err != nil {
			t.Fatal(err)
		}
		for r := range got.RecordsAll() {
			out[r.Partition] = append(out[r.Partition], string(r.Value))
			n--
		}
	}
	return out
}

// Each partition is filled up from its own end.
func TestPublishGoesOn(t *testing.T) {
	for _, has := range [][3]int{{}, {5, 0, 2}, {34, 33, 33}} {
		t.Run(fmt.Sprint(has), func(t *testing.T) {
			brokers := broker(t)
			topic := open(t, brokers)
			for p, n := range has {
				for i := range n {
					if err := topic.Send(t.Context(), []int32{int32(p)}, [][]byte{fmt.Appendf(nil, "line %d", i*3+p)}); err != nil {
						t.Fatal(err)
					}
				}
			}
			ends, err := topic.Publish(t.Context(), linesOf(100))
			if err != nil || ends[0] != 34 || ends[1] != 33 || ends[2] != 33 {
				t.Fatalf("Publish = %v, %v", ends, err)
			}
			for p, got := range content(t, brokers, 100) {
				var want []string
				for i := p; i < 100; i += 3 {
					want = append(want, fmt.Sprintf("line %d", i))
				}
				if !slices.Equal(got, want) {
					t.Errorf("partition %d: %q", p, got)
				}
			}
		})
	}
}

func TestPublishRefusesOtherContent(t *testing.T) {
	for name, c := range map[string]struct {
		partition int32
		lines     []string
		publish   int
		say       string
	}{
		"other line": {1, []string{"line 1", "line 7"}, 9, "offset 1 of partition 1 isn't line 5"},
		"too many":   {2, []string{"line 2", "line 5"}, 5, "partition 2 has 2 records, 1 are to go there"},
	} {
		t.Run(name, func(t *testing.T) {
			topic := open(t, broker(t))
			for _, l := range c.lines {
				if err := topic.Send(t.Context(), []int32{c.partition}, [][]byte{[]byte(l)}); err != nil {
					t.Fatal(err)
				}
			}
			_, err := topic.Publish(t.Context(), linesOf(c.publish))
			if fault.CodeOf(err) != fault.OtherJob.ID || !strings.Contains(err.Error(), c.say) {
				t.Errorf("Publish: %v", err)
			}
		})
	}
}

func TestMissingTopic(t *testing.T) {
	_, err := Open(t.Context(), broker(t), "absent")
	if fault.CodeOf(err) != fault.NoTopic.ID {
		t.Errorf("Open: %v", err)
	}
}

func TestDir(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat("x", 1<<19)
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, err := z.Write([]byte("c1\nc2"))
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"b.log": "b1\r\n\nb3\n", "a.log": long + "\na2", "c.gz": zipped.String(), ".hidden": "no\n", "_part": "no\n", "sub/x": "no\n", "empty": "",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	if err := Dir(dir)(func(l []byte) error { got = append(got, string(l)); return nil }); err != nil {
		t.Fatal(err)
	}
	if want := []string{long, "a2", "b1", "", "b3", "c1", "c2"}; !slices.Equal(got, want) {
		t.Errorf("lines %.50q", got)
	}
	cut := filepath.Join(dir, "cut.gz")
	if err := os.WriteFile(cut, zipped.Bytes()[:zipped.Len()-9], 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Dir(cut)(func([]byte) error { return nil }); fault.CodeOf(err) != fault.CutShort.ID {
		t.Errorf("a gzip file cut short: %v", err)
	}
	if err := Dir(filepath.Join(dir, "absent"))(func([]byte) error { return nil }); fault.CodeOf(err) != fault.NoInput.ID {
		t.Errorf("no directory: %v", err)
	}
}
