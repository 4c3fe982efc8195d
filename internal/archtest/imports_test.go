package archtest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// layer says what the packages under some folders may import beside the standard library and themselves.
type layer struct {
	dirs   []string // the folder itself; with /... all below it too
	allow  []string // folders of this module, or prefixes of other modules' paths
	reason string
}

const (
	fault = "internal/fault"
	cbor  = "github.com/fxamacker/cbor"
	hash  = "github.com/cespare/xxhash"
)

// layers is the whole picture; a package that's in none of them is refused.
var layers = []layer{
	{
		[]string{fault, "internal/ring", "internal/meter", "internal/restart", "internal/links"},
		nil,
		"everything stands on it",
	},
	{
		[]string{"source", "sink"},
		[]string{fault},
		"contracts must be implementable without pulling anything in",
	},
	{
		[]string{"enumerator"},
		[]string{"source", fault},
		"toolkits stand on contracts only, so that connectors run under any engine",
	},
	{
		[]string{"reader"},
		[]string{"source", fault, "golang.org/x/sync"},
		"toolkits stand on contracts only, so that connectors run under any engine",
	},
	{
		[]string{"hybrid"},
		[]string{"source", "enumerator", "reader", fault},
		"toolkits stand on contracts only, so that connectors run under any engine",
	},
	{
		[]string{"sink/async"},
		[]string{"sink", fault, "internal/plain", "golang.org/x/sync", "github.com/sony/gobreaker"},
		"toolkits stand on contracts only, so that connectors run under any engine",
	},
	{
		[]string{"sink/ahead"},
		[]string{"sink", "txn", fault, "internal/plain", "internal/durable"},
		"toolkits stand on contracts only, so that connectors run under any engine",
	},
	{[]string{"internal/plain"}, []string{fault, cbor}, "it knows values only"},
	{[]string{"internal/groups"}, nil, "the byte form of state by key group; it knows no writer and no task"},
	{
		[]string{"deadletter"},
		[]string{"sink", fault, "internal/plain", "internal/durable"},
		"letters are written by the engine, read by tools and kept by connectors; it knows none of them",
	},
	{
		[]string{"sink/parts"},
		[]string{"sink", fault},
		"toolkits stand on contracts only, so that connectors run under any engine",
	},
	{
		[]string{"sink/parts/parquet"},
		[]string{"sink/parts", "github.com/parquet-go/parquet-go"},
		"a format with a library is linked by those who ask for it",
	},
	{
		[]string{"txn"},
		[]string{"sink", fault},
		"toolkits stand on contracts only, so that connectors run under any engine",
	},
	{
		[]string{"source/sourcetest"},
		[]string{"source", "enumerator", "reader", "go.uber.org/goleak"},
		"a conformance kit must test any connector, whatever engine runs it",
	},
	{
		[]string{"sink/sinktest"},
		[]string{"sink", "go.uber.org/goleak"},
		"a conformance kit must test any connector, whatever engine runs it",
	},
	{
		[]string{"txn/txntest"},
		[]string{"sink", "sink/sinktest", "txn", "engine/store", "savepoint", fault},
		"a conformance kit must test any connector; the job that is killed is given to it, and of the engine it knows the store that completes epochs",
	},
	{
		[]string{"state"},
		[]string{fault, cbor, hash},
		"state is used by operators and stored by the engine; it knows neither",
	},
	{
		[]string{"engine/store/blob"},
		[]string{"engine/store", "sink", fault, "internal/durable", hash, "internal/s3client", "github.com/aws/aws-sdk-go-v2"},
		"object stores are linked by those who ask for them",
	},
	{
		[]string{"state/pebble"},
		[]string{"state", fault, "github.com/cockroachdb/pebble"},
		"a backend is linked by those who ask for it, and keeps bytes for package state",
	},
	{
		[]string{"internal/flight"},
		[]string{"source", "state"},
		"the byte form of records in flight; it knows no pipeline",
	},
	{
		[]string{"internal/durable"},
		[]string{cbor, hash, "golang.org/x/sys"},
		"files that survive crashes; it knows no checkpoint and no job",
	},
	{
		[]string{"engine/store/..."},
		[]string{"sink", fault, "internal/durable", hash},
		"the checkpoint store writes bytes; it knows no pipeline",
	},
	{
		[]string{"savepoint"},
		[]string{"engine/store", "state", fault, cbor},
		"savepoints are read and begun from beside the engine, not in it",
	},
	{
		[]string{"internal/statefiles"},
		[]string{"state", "engine/store", fault},
		"it stands between the backends of state and the checkpoint store, and knows no pipeline",
	},
	{
		[]string{"internal/splits"},
		[]string{"source", "engine/store", fault},
		"the table of splits; it knows no task and no pipeline",
	},
	{
		[]string{"internal/sizes"},
		[]string{"source"},
		"it weighs batches; it knows no queue",
	},
	{
		[]string{"engine", "engine/internal/..."},
		[]string{"source", "sink", "state", "engine", fault, "internal/ring", "internal/sizes", "internal/meter", "internal/statefiles", "internal/flight", "internal/splits", "internal/groups", "internal/restart", "deadletter"},
		"the engine knows no outside system; connectors meet it in a pipeline's main only",
	},
	{
		[]string{"operators"},
		[]string{"engine", "state", "source", "sink", fault},
		"operators are made of the engine's public face, as a pipeline's own are",
	},
	{
		[]string{"engine/cli"},
		[]string{"engine", "engine/store", "savepoint", "sink", "txn", "deadletter", fault},
		"the command line must not bring a dependency into every binary",
	},
	{
		[]string{"engine/prom"},
		[]string{"engine", "state", fault, "internal/meter", "github.com/prometheus/client_golang"},
		"Prometheus is linked by those who ask for it",
	},
	{
		[]string{"engine/enginetest"},
		[]string{"engine", "engine/store", "source", "sink", "state", "enumerator", "reader", "go.uber.org/goleak"},
		"a conformance kit must test any connector",
	},
	{
		[]string{"connector/files"},
		append([]string{"github.com/klauspost/compress"}, toolkits...),
		"a connector has its toolkits and one client library, and no engine",
	},
	{[]string{"internal/bubble"}, nil, "tests of every package run in it"},
	{[]string{"connector/gen"}, toolkits, "a connector has its toolkits and one client library, and no engine"},
	{
		[]string{"connector/kafka"},
		append([]string{"github.com/twmb/franz-go", "deadletter"}, toolkits...),
		"a connector has its toolkits and one client library, and no engine",
	},
	{
		[]string{"internal/s3client"},
		[]string{"github.com/aws/aws-sdk-go-v2", "github.com/aws/smithy-go"},
		"the client of object stores, which the checkpoint store and a connector share; it knows neither",
	},
	{
		[]string{"connector/objects"},
		append([]string{"internal/s3client", "github.com/aws/aws-sdk-go-v2"}, toolkits...),
		"a connector has its toolkits and one client library, and no engine",
	},
	{[]string{"internal/rest"}, nil, "requests by HTTP, which connectors share; it knows none of them"},
	{
		[]string{"connector/http", "connector/opensearch"},
		append([]string{"internal/rest"}, toolkits...),
		"a connector has its toolkits and one client library, and no engine",
	},
	{
		[]string{"connector/redis"},
		append([]string{"github.com/redis/go-redis"}, toolkits...),
		"a connector has its toolkits and one client library, and no engine",
	},
	{
		[]string{"internal/sqlsink"},
		[]string{"sink", "sink/async", "internal/links", fault},
		"what plain sinks into tables share; it knows no server",
	},
	{
		[]string{"internal/sqlsink/sqlsinktest"},
		[]string{"sink", "sink/async", "sink/sinktest", "internal/sqlsink", "internal/testsvc", fault},
		"the tests that plain sinks into tables share; it knows no server",
	},
	{
		[]string{"connector/mysql"},
		append([]string{"internal/sqlsink", "github.com/go-sql-driver/mysql"}, toolkits...),
		"a connector has its toolkits and one client library, and no engine",
	},
	{
		[]string{"connector/postgres"},
		append([]string{"internal/sqlsink", "github.com/jackc/pgx"}, toolkits...),
		"a connector has its toolkits and one client library, and no engine",
	},
}

var toolkits = []string{"source", "sink", "enumerator", "reader", "hybrid", "sink/async", "sink/ahead", "sink/parts", "txn", fault}

// free are the programs: they may import what they like.
var free = []string{"internal/mutants", "internal/matrix", "internal/sim", "internal/soak", "examples", "benchmarks", "internal/testsvc", "internal/accept", "internal/archtest", "internal/chaos", "internal/leaks", "internal/storms", "docs"}

// layerOf is the layer a package is in.
func layerOf(rel string) (layer, bool) {
	for _, l := range layers {
		for _, d := range l.dirs {
			if base, deep := strings.CutSuffix(d, "/..."); rel == d || deep && under(rel, base) {
				return l, true
			}
		}
	}
	return layer{}, false
}

// importRule complains about imports that point the wrong way.
func importRule(p *pkg) (bad []string) {
	rel := p.rel()
	if rel == "." || underAny(rel, free) {
		return nil
	}
	l, ok := layerOf(rel)
	if !ok {
		return []string{fmt.Sprintf("package %s is in no layer: nobody has decided what it may import; fix: add it to layers in internal/archtest/imports_test.go", rel)}
	}
	for _, i := range p.Imports {
		if !strings.Contains(strings.SplitN(i, "/", 2)[0], ".") || slices.Contains(l.dirs, inModule(i)) || allowed(l, rel, i) {
			continue
		}
		bad = append(bad, fmt.Sprintf("%s imports %s: %s; fix: move what needs it up, or pass it in as a value", rel, inModule(i), l.reason))
	}
	return bad
}

func allowed(l layer, rel, importPath string) bool {
	short, ours := strings.CutPrefix(importPath, module+"/")
	for _, d := range l.dirs {
		if base, deep := strings.CutSuffix(d, "/..."); ours && deep && under(rel, base) && under(short, base) {
			return true
		}
	}
	return slices.ContainsFunc(l.allow, func(a string) bool {
		if ours {
			return short == a || a == "engine" && under(short, "engine/internal") || l.dirs[0] == "engine" && short == "engine/store"
		}
		return strings.HasPrefix(importPath+"/", strings.TrimSuffix(a, "/")+"/")
	})
}

// heavy are the clients and databases that no binary gets unless it asks.
var heavy = []string{
	"github.com/twmb/franz-go", "github.com/redis/go-redis", "github.com/alicebob/miniredis", "github.com/jackc/pgx",
	"github.com/go-sql-driver/mysql", "github.com/cockroachdb/pebble", "github.com/prometheus", "github.com/aws",
	"github.com/parquet-go/parquet-go",
	"cloud.google.com", "github.com/Azure", "google.golang.org/grpc",
}

// heavyRule complains about heavy packages among what the package links.
func heavyRule(p *pkg) (bad []string) {
	for _, d := range p.Deps {
		if underAny(d, heavy) || slices.ContainsFunc(heavy, func(h string) bool { return strings.HasPrefix(d, h+"/") }) {
			bad = append(bad, fmt.Sprintf("%s links %s: a binary links only what its main asks for; fix: put what needs it into a package of its own and pass it in as a value", p.rel(), d))
		}
	}
	return bad
}

func TestImportDirections(t *testing.T) {
	for _, p := range repository(t) {
		report(t, importRule(p))
	}
}

func TestLayersExist(t *testing.T) {
	have := map[string]bool{}
	for _, p := range repository(t) {
		have[p.rel()] = true
	}
	for _, l := range layers {
		for _, d := range l.dirs {
			if base, deep := strings.CutSuffix(d, "/..."); !have[d] && !deep {
				t.Errorf("layer %s has no package: the rule protects nothing; fix: take it out of layers, or mend the name", base)
			}
		}
	}
}

func TestEngineLinksNoClient(t *testing.T) {
	for _, p := range repository(t) {
		if rel := p.rel(); rel == "engine" || rel == "engine/cli" || under(rel, "engine/store") && rel != "engine/store/blob" || rel == "state" ||
			underAny(rel, []string{"source", "sink", "enumerator", "reader", "hybrid", "txn", "deadletter", "connector/files"}) && rel != "sink/parts/parquet" {
			report(t, heavyRule(p))
		}
	}
}

func TestImportRuleFails(t *testing.T) {
	for _, c := range []struct{ path, imports, want string }{
		{"source", module + "/enumerator", "contracts"},
		{"source", "golang.org/x/sync/errgroup", "contracts"},
		{"reader", module + "/engine", "toolkits"},
		{"txn", module + "/connector/postgres", "toolkits"},
		{"sink/async", "github.com/redis/go-redis/v9", "toolkits"},
		{"connector/kafka", module + "/engine", "no engine"},
		{"connector/kafka", module + "/connector/redis", "no engine"},
		{"connector/redis", "github.com/twmb/franz-go/pkg/kgo", "one client library"},
		{"engine", module + "/connector/kafka", "no outside system"},
		{"engine", "github.com/prometheus/client_golang/prometheus", "no outside system"},
		{"engine/store", module + "/engine", "no pipeline"},
		{"engine", "github.com/cockroachdb/pebble/v2", "no outside system"},
		{"state", module + "/state/pebble", "knows neither"},
		{"newthing", "fmt", "in no layer"},
	} {
		wants(t, importRule(synthetic(t, module+"/"+c.path, "package x\nimport _ \""+c.imports+"\"")), c.want)
	}
	wants(t, importRule(synthetic(t, module+"/connector/redis", "package x\nimport (\n_ \"fmt\"\n_ \"github.com/redis/go-redis/v9\"\n_ \""+module+"/sink\")")))
	wants(t, heavyRule(&pkg{ImportPath: module + "/engine", Deps: []string{"fmt", "github.com/prometheus/common/model"}}), "prometheus/common")
}
