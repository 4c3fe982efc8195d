package load

import "testing"

func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		name       string
		answer     func(n int64, keys uint32) (int64, int64)
		n          int64
		keys       uint32
		count, sum uint64
	}{
		{"chain", ChainAnswer, 200_000_000, 10_000, 99_992_061, 157274921382457},
		{"keyed", KeyedAnswer, 4_000_000, 10_000, 4_000_000, 17025328505686719002},
		{"keyed", KeyedAnswer, 4_000_000, 1_000_000, 4_000_000, 5862154598828789114},
		{"windows", WindowsAnswer, 10_000_000, 1_000_000, 6354239, 10802204118538803364},
		{"q5", HotAuctionsAnswer, 300_000, 0, 19, 32304771432142},
		{"q5", HotAuctionsAnswer, 1_000_000, 0, 54, 91832615229509},
		{"q8", NewcomersAnswer, 300_000, 0, 17274, 2069765849},
		{"q8", NewcomersAnswer, 20_000_000, 0, 1125346, 6997199393803},
	} {
		count, sum := c.answer(c.n, c.keys)
		if uint64(count) != c.count || uint64(sum) != c.sum {
			t.Errorf("%s of %d records, %d keys: %d, %d; want %d, %d", c.name, c.n, c.keys, count, uint64(sum), c.count, c.sum)
		}
	}
}

func TestDisorderIsBounded(t *testing.T) {
	newest := int64(0)
	for seq := range int64(1_000_000) {
		at := Make(seq, 10).At
		if newest = max(newest, at); newest-at >= Disorder {
			t.Fatalf("record %d is %d ms behind", seq, newest-at)
		}
	}
}
