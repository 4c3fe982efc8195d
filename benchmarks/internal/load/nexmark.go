package load

import (
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/operators"
	"github.com/weirline/weirline/source"
)

// Kind says what an Auctioned event is.
type Kind int64

// The kinds: of 50 events one is a person, three are auctions, 46 are bids.
const (
	Person Kind = iota
	Auction
	Bid
)

// Auctioned is an event of an auction house: a person (A), an auction (A) of a seller (B), or a bid on an auction (A) by a
// bidder (B).
type Auctioned struct {
	Kind  Kind
	A, B  int64
	Price int64
	At    int64 // event time in milliseconds since 1970 UTC
	Extra string
}

// extra stands for what real events carry besides.
const extra = "thirty-two bytes of further text"

// MakeAuctioned is event number seq: ten for each millisecond, in order. Half of the bids go to a few hot auctions, three
// quarters of sellers and bidders are a few hot persons.
func MakeAuctioned(seq int64) Auctioned {
	h := Mix(uint64(seq))
	epoch, rem, u := seq/50, seq%50, int64(h>>32)
	e := Auctioned{At: Start + seq/10, Extra: extra}
	switch {
	case rem == 0:
		e.A = 1000 + epoch
	case rem < 4:
		e.Kind, e.A, e.B = Auction, 1000+3*epoch+rem-1, 1000+pick(h&3 != 0, epoch/100*100, epoch-u%1000)
	default:
		last := 3*epoch + 2
		e.Kind, e.Price = Bid, 100+int64(h>>8&0xFFFFF)
		e.A, e.B = 1000+pick(h&1 != 0, last/100*100, last-u%100), 1000+pick(h>>1&3 != 0, epoch/100*100, epoch-u%1000)
	}
	return e
}

// pick chooses without a branch, which would often be mispredicted.
func pick(hot bool, a, b int64) int64 {
	v := max(0, b)
	if hot {
		v = a
	}
	return v
}

// FillAuctioned makes events with their times.
func FillAuctioned(from, step int64, n int, out *source.Batch[Auctioned]) {
	more := room(out, n)
	for i := range more {
		more[i] = MakeAuctioned(from)
		out.Times = append(out.Times, more[i].At*1000)
		from += step
	}
}

// BidCount is how many bids an auction had in a window. End is in milliseconds.
type BidCount struct{ End, Auction, Bids int64 }

// Hottest is what a window's bids came to: the highest count, and the sum of the auctions that have it.
type Hottest struct{ End, Bids, Auctions int64 }

// Add takes the count of one more auction in.
func (t *Hottest) Add(c BidCount) {
	switch {
	case c.Bids > t.Bids:
		t.Bids, t.Auctions = c.Bids, c.Auction
	case c.Bids == t.Bids:
		t.Auctions += c.Auction
	}
}

// HottestOf is what the sink of q5 adds up.
func HottestOf(t Hottest) int64 { return (t.Bids*1_000_003 + t.Auctions) ^ t.End }

// The windows of q5.
const (
	BidsSize  = 10 * time.Second
	BidsEvery = 2 * time.Second
)

// HotAuctions is q5: bids counted by auction in sliding windows, and of each window the auctions with the most.
func HotAuctions(p *engine.Pipeline, src source.Source[Auctioned, gen.Split]) *Total[Hottest] {
	total := NewTotal(HottestOf)
	s := engine.From(p, "events", src).EventTime(nil, engine.Watermarks{})
	bids := engine.Map(s.Filter("bids", func(e Auctioned) bool { return e.Kind == Bid }), "auction", func(e Auctioned) int64 { return e.A })
	counts := engine.AggregateSliding(
		engine.Slide(engine.KeyBy(bids, func(a int64) int64 { return a }), "count", engine.Sliding{Size: BidsSize, Every: BidsEvery}),
		func(n *int64, _ int64) { *n++ },
		func(into, from *int64) { *into += *from },
		func(auction int64, span engine.Span, n *int64) BidCount {
			return BidCount{End: span.End.UnixMilli(), Auction: auction, Bids: *n}
		})
	byWindow := engine.KeyBy(counts, func(c BidCount) int64 { return c.End })
	hottest := engine.Aggregate(engine.Window(byWindow, "hottest", engine.Tumbling{Size: BidsEvery}), (*Hottest).Add,
		func(end int64, _ engine.Span, t *Hottest) Hottest { t.End = end; return *t })
	engine.To(hottest, "discard", total)
	return total
}

// HotAuctionsAnswer is what n events come to in q5. The number of keys is given by n.
func HotAuctionsAnswer(n int64, _ uint32) (count, sum int64) {
	size, every := BidsSize.Milliseconds(), BidsEvery.Milliseconds()
	windows := map[int64]map[int64]int64{} // bids by window's end and auction
	emit := func(end int64) {
		var t Hottest
		for auction, bids := range windows[end] {
			t.Add(BidCount{Auction: auction, Bids: bids})
		}
		t.End = end
		count++
		sum += HottestOf(t)
		delete(windows, end)
	}
	first := Start - Start%every + every // end of the next window
	for seq := range n {
		e := MakeAuctioned(seq)
		for ; e.At >= first; first += every {
			if windows[first] != nil {
				emit(first)
			}
		}
		if e.Kind != Bid {
			continue
		}
		for end := first; end < first+size; end += every {
			if windows[end] == nil {
				windows[end] = map[int64]int64{}
			}
			windows[end][e.A]++
		}
	}
	for ; len(windows) > 0; first += every {
		if windows[first] != nil {
			emit(first)
		}
	}
	return count, sum
}

// Newcomer is a person who put something up for auction in the window in which they came.
type Newcomer struct{ Person, Auction int64 }

// NewcomerOf is what the sink of q8 adds up.
func NewcomerOf(n Newcomer) int64 { return n.Person*31 ^ n.Auction }

// NewcomersSize is the window of q8.
const NewcomersSize = 10 * time.Second

// Newcomers is q8: persons joined with the auctions they are the seller of, both in one window.
func Newcomers(p *engine.Pipeline, src source.Source[Auctioned, gen.Split]) *Total[Newcomer] {
	total := NewTotal(NewcomerOf)
	s := engine.From(p, "events", src).EventTime(nil, engine.Watermarks{}).Filter("no-bids", func(e Auctioned) bool { return e.Kind != Bid })
	persons := engine.Map(s.Filter("persons", func(e Auctioned) bool { return e.Kind == Person }), "person", func(e Auctioned) int64 { return e.A })
	auctions := engine.Map(s.Filter("auctions", func(e Auctioned) bool { return e.Kind == Auction }), "auction",
		func(e Auctioned) Newcomer { return Newcomer{Person: e.B, Auction: e.A} })
	joined, _ := operators.WindowJoin("join",
		operators.By(persons, func(id int64) int64 { return id }), operators.By(auctions, func(a Newcomer) int64 { return a.Person }),
		engine.Tumbling{Size: NewcomersSize}, func(g operators.Group[int64, int64, Newcomer], emit func(Newcomer)) {
			for _, a := range g.Inner() {
				emit(*a)
			}
		})
	engine.To(joined, "discard", total)
	return total
}

// NewcomersAnswer is what n events come to in q8. The number of keys is given by n.
func NewcomersAnswer(n int64, _ uint32) (count, sum int64) {
	size := NewcomersSize.Milliseconds()
	persons, auctions := map[int64]bool{}, []Newcomer{}
	end := int64(Start - Start%size + size)
	closeWindow := func() {
		for _, a := range auctions {
			if persons[a.Person] {
				count++
				sum += NewcomerOf(a)
			}
		}
		clear(persons)
		auctions = auctions[:0]
	}
	for seq := range n {
		e := MakeAuctioned(seq)
		for ; e.At >= end; end += size {
			closeWindow()
		}
		switch e.Kind {
		case Person:
			persons[e.A] = true
		case Auction:
			auctions = append(auctions, Newcomer{Person: e.B, Auction: e.A})
		case Bid:
		}
	}
	closeWindow()
	return count, sum
}
