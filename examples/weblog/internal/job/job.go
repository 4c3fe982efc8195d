// Package job is the pipeline of weblog: lines of access logs in, page views and unique visitors per page and minute out.
//
//	p := job.New(engine.Config{Name: "weblog", Dir: dir}, job.Input{Logs: []string{"logs"}}, job.Output{Addr: addr, Prefix: "weblog:"})
//	err := p.Run(ctx)
//
//	files, then a topic -> parse -> event time -> views -> by page -> minutes -> Redis
//	                                          \-> tally: what was read of each input, what didn't count, what was late -> Redis
//
// The tally is part of the job's state, so it is as exact as the counts, whatever crashed in between: it tells how many
// lines of the files and of each partition were taken, and whether an offset was missing or came twice.
package job

import (
	"time"

	"github.com/weirline/weirline/connector/files"
	"github.com/weirline/weirline/connector/kafka"
	"github.com/weirline/weirline/connector/redis"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/examples/weblog/internal/accesslog"
	"github.com/weirline/weirline/examples/weblog/internal/results"
	"github.com/weirline/weirline/hybrid"
	"github.com/weirline/weirline/reader"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/source"
)

// Input is what the job reads.
type Input struct {
	Logs   string  // directory of log files, "" = none
	Splits int     // cut the files into so many equal parts; 0 = one part a file
	Rate   float64 // at most so many lines a second; 0 = no limit

	Brokers []string        // of Kafka; none = no topic
	Topic   string          // read after the files
	Ends    map[int32]int64 // where to stop in each partition; nil = never

	Unchecked bool // don't ask Kafka before the start: it isn't there, only a plan is wanted
}

// Timing says how event time moves on.
type Timing struct {
	Delay time.Duration // how far out of order lines may be
	Idle  time.Duration // after this time a silent partition isn't waited for; 0 = never
}

// Output is where results go.
type Output struct {
	Addr     string // of Redis
	Password string
	Prefix   string        // of every key
	Keep     time.Duration // how long results stay there

	Unchecked bool // don't ask Redis before the start, as with Input
}

// Line is a line as it is read.
type Line struct {
	Text string
	From int32 // partition, or results.Files
	At   int64 // offset in the partition
}

// Read is a line as the job understands it.
type Read struct {
	Hit   accesslog.Hit
	Valid bool // it counts
	From  int32
	At    int64
}

// View is one visit to a page, or to all of them.
type View struct{ Page, Visitor string }

// New builds the pipeline.
func New(cfg engine.Config, in Input, t Timing, out Output) *engine.Pipeline {
	p := engine.New(cfg)
	lines := engine.From(p, "log", reader.RateLimit(in.source(), in.Rate))
	timed := engine.Map(lines, "parse", parse).EventTime(eventTime, engine.Watermarks{Delay: t.Delay, Idle: t.Idle})

	views := engine.FlatMap(timed, "views", eachView)
	byPage := engine.KeyBy(views, func(v View) string { return v.Page })
	minutes := engine.Window(byPage, "minutes", engine.Tumbling{Size: time.Minute})
	engine.To(engine.Aggregate(minutes, addView, result), "store", sinkTo(out, results.Store))

	read := engine.Map(timed, "seen", seen)
	late := engine.Map(minutes.Late(), "late", func(View) Seen { return Seen{From: results.Late} })
	tally := engine.Process(engine.KeyBy(engine.Union(read, late), func(s Seen) int32 { return s.From }), "tally",
		func() *tallier { return &tallier{} })
	engine.To(tally, "report", sinkTo(out, results.StoreTally))
	return p
}

// source is the files, then the topic. An event time in the past is no surprise in either: the watermark waits for the
// last stage.
func (in Input) source() hybrid.Source[Line] {
	var stages []hybrid.Stage[Line]
	if in.Logs != "" {
		stages = append(stages, hybrid.First(files.Source[Line]{
			Paths: []string{in.Logs}, Splits: in.Splits,
			Decode: func(l files.Line) (Line, error) {
				return Line{Text: l.Text(), From: results.Files, At: l.Offset()}, nil
			},
		}))
	}
	if len(in.Brokers) > 0 {
		stages = append(stages, hybrid.Then(in.topic()))
	}
	return hybrid.Of(stages...)
}

func (in Input) topic() source.Source[Line, kafka.Split] {
	src := kafka.Source[Line]{
		Brokers: in.Brokers, Topics: []string{in.Topic},
		Decode: func(r *kafka.Record) (Line, error) {
			return Line{Text: string(r.Value), From: r.Partition, At: r.Offset}, nil
		},
	}
	if in.Ends != nil {
		src.Stop = kafka.StopAt(map[string]map[int32]int64{in.Topic: in.Ends})
	}
	switch {
	case !in.Unchecked:
		return src
	case in.Ends == nil:
		return source.Unbounded(source.Of(src.Enumerator, src.Reader))
	}
	return source.Of(src.Enumerator, src.Reader)
}

func parse(l Line) Read {
	h, ok := accesslog.Parse(l.Text)
	return Read{Hit: h, Valid: ok, From: l.From, At: l.At}
}

// eventTime is none for a line that doesn't count.
func eventTime(r Read) time.Time {
	if !r.Valid {
		return time.Time{}
	}
	at := time.UnixMicro(r.Hit.At)
	if at.IsZero() {
		return at.Add(time.Microsecond) // the first moment of the year 1, as a log may claim, would mean "no time"
	}
	return at
}

func eachView(r Read, out *engine.Out[View]) error {
	if !r.Valid {
		return nil
	}
	out.Emit(View{Page: results.AllPages, Visitor: r.Hit.Visitor})
	if r.Hit.Page != results.AllPages { // OPTIONS * is a visit to no page of its own
		out.Emit(View{Page: r.Hit.Page, Visitor: r.Hit.Visitor})
	}
	return nil
}

func sinkTo[T any](out Output, do func(T, *redis.Cmds, time.Duration) error) sink.Sink[T] {
	to := redis.Sink[T]{
		Addr: out.Addr, Password: out.Password, Prefix: out.Prefix,
		Do: func(v T, c *redis.Cmds) error { return do(v, c, out.Keep) },
	}
	if out.Unchecked {
		return unchecked[T]{to}
	}
	return to
}

// unchecked hides a sink's check before the start.
type unchecked[T any] struct{ sink.Sink[T] }

func (unchecked[T]) Idempotent() bool { return true }
