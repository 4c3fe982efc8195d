package app

import (
	"flag"
	"os"
	"path/filepath"
	"time"

	"github.com/weirline/weirline/engine/cli"
	"github.com/weirline/weirline/internal/fault"
)

// options are the flags of weblog.
type options struct {
	logs, live, out    string
	once, generate     bool
	kafka, topic       string
	redis, prefix      string
	password           *cli.Secret
	delay, idle, keep  time.Duration
	rate, speed        float64
	splits, partitions int
}

// declare declares the flags. KAFKA, REDIS and LOGS are shorter names of their environment twins.
func (o *options) declare(fs *flag.FlagSet) {
	fs.StringVar(&o.logs, "logs", os.Getenv("LOGS"), "read the log files of this `directory` first; or $LOGS; empty = made up, unless -kafka or -once is given")
	fs.StringVar(&o.live, "live", "", "with -once: publish the log lines in this `directory` into the topic")
	fs.BoolVar(&o.once, "once", false, "read the files and the topic up to its end, write -out, and end")
	fs.StringVar(&o.out, "out", "", "with -once: the `file` for the results, as CSV")
	fs.StringVar(&o.kafka, "kafka", os.Getenv("KAFKA"), "`addresses` of Kafka, host:port,...; or $KAFKA; empty = an embedded one")
	fs.StringVar(&o.topic, "topic", "weblog", "`topic` to go on with after the files")
	fs.IntVar(&o.partitions, "partitions", 4, "`number` of partitions of the embedded topic")
	fs.StringVar(&o.redis, "redis", os.Getenv("REDIS"), "`address` of Redis, host:port; or $REDIS; empty = an embedded one")
	o.password = cli.SecretFlag(fs, "redis-password", "password of Redis")
	fs.StringVar(&o.prefix, "prefix", "weblog:", "`prefix` of all keys in Redis")
	fs.DurationVar(&o.keep, "keep", 7*24*time.Hour, "`time` after which results expire in Redis")
	fs.DurationVar(&o.delay, "delay", time.Minute, "`time` by which lines of one file or partition may be out of order")
	fs.DurationVar(&o.idle, "idle", 10*time.Second, "`time` after which a silent partition isn't waited for; 0 = wait; -once always waits")
	fs.Float64Var(&o.rate, "rate", 0, "read at most so many `lines` a second; 0 = no limit")
	fs.IntVar(&o.splits, "splits", 0, "cut the files into so many equal `parts`; 0 = one part a file")
	fs.BoolVar(&o.generate, "generate", false, "publish made-up lines even into a Kafka of your own")
	fs.Float64Var(&o.speed, "speed", 30, "made-up lines: `seconds` of the log for one of the clock")
}

// validate finds what flags contradict each other.
func (o *options) validate(state string) error {
	bad := func(fix, what string, args ...any) error {
		return fault.New(fault.Usage, what, args...).WithFix("%s", fix)
	}
	switch {
	case state == "":
		return bad("give -state a directory", "weblog keeps the run's identity and its embedded services in the state directory, and there is none")
	case o.once && o.out == "":
		return bad("give -out the name of a file", "-once needs a place for the results")
	case o.once && !isDir(filepath.Dir(o.out)):
		return bad("make the directory first", "-out %s: its directory isn't there", o.out)
	case o.once && o.logs == "" && o.live == "" && o.kafka == "":
		return bad("give -logs, -live or -kafka", "-once has nothing to read")
	case o.once && o.generate:
		return bad("leave -generate out", "-generate never ends, -once does")
	case !o.once && (o.live != "" || o.out != ""):
		return bad("give -once too", "-live and -out are for -once")
	case o.delay < 0 || o.idle < 0 || o.keep <= 0 || o.rate < 0 || o.splits < 0:
		return bad("give it a positive value", "one of -delay, -idle, -keep, -rate, -splits is negative")
	case o.partitions < 1:
		return bad("give 1 or more", "-partitions is %d", o.partitions)
	case o.speed <= 0:
		return bad("give a number above 0", "-speed is %v", o.speed)
	case o.topic == "":
		return bad("give -topic a name", "-topic is empty")
	}
	return nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// hasTopic says whether a topic is read at all.
func (o *options) hasTopic() bool { return !o.once || o.live != "" || o.kafka != "" }

// madeUp says whether lines are made up.
func (o *options) madeUp() bool { return !o.once && (o.kafka == "" || o.generate) }
