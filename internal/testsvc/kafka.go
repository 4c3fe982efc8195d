package testsvc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// kafkaVersion is the release that scripts/deps.sh puts into the cache directory.
const kafkaVersion = "4.3.1"

// kafkaStartTimeout bounds one start, on a machine that is busy with other tests.
const kafkaStartTimeout = 90 * time.Second

// KafkaOptions are the settings of one broker. The zero value is a broker without authentication.
type KafkaOptions struct {
	// User and Password open a second listener, [KafkaServer.SASLAddr], that wants them, by SASL PLAIN or
	// SCRAM-SHA-256, without TLS. Unset = no such listener.
	User, Password string
	// Proxied opens a listener for clients that come by way of [KafkaServer.Proxy]. Brokers tell their clients where to connect, so
	// that a proxy before any other listener would soon be left aside.
	Proxied bool
	// TransactionVersion is the level of the transaction protocol that the broker is formatted with. Unset = its newest.
	TransactionVersion int
	// Heap is how much memory the broker gets, as java writes it ("1g"), for benchmarks: it then is also compiled for
	// speed, and starts slower. Unset: 256m, and a fast start.
	Heap string
	// Properties are broker settings on top of (or instead of) the defaults.
	Properties map[string]string
}

// KafkaServer is a broker of its own: one process, broker and controller in one, with transactions, without automatic
// topic creation.
type KafkaServer struct {
	// Addr is the bootstrap address, host:port. It stays the same over Kill and Restart.
	Addr string
	// SASLAddr is the listener with authentication, empty without [KafkaOptions].User.
	SASLAddr string
	// Dir holds the data, server.properties and kafka.log.
	Dir string

	jars  string
	heap  string
	proc  *proc
	inner string // the listener with Proxied
	outer string // where its clients connect
}

// StartKafka starts a broker with a new data directory under dir, which is created if absent, must not hold a broker
// yet and isn't removed by Stop. It blocks until the broker answers, ctx ends or 90 s have passed. ctx doesn't end
// the broker: call Stop.
func StartKafka(ctx context.Context, dir string, o KafkaOptions) (*KafkaServer, error) {
	jars, err := kafkaJars()
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("start kafka: %w", err)
	}
	for {
		k := &KafkaServer{Dir: dir, jars: jars, heap: o.Heap}
		err := k.create(ctx, o)
		if err == nil {
			err = k.Restart(ctx)
		}
		if err == nil {
			return k, nil
		}
		k.Kill()
		if !errors.Is(err, errAddrInUse) {
			return nil, fmt.Errorf("start kafka in %s: %w", dir, err)
		}
		if err := os.RemoveAll(filepath.Join(dir, "data")); err != nil {
			return nil, fmt.Errorf("start kafka again on another port: %w", err)
		}
	}
}

// kafkaJars is where scripts/deps.sh puts the broker.
func kafkaJars() (string, error) {
	if _, err := exec.LookPath("java"); err != nil {
		return "", fmt.Errorf("find java for kafka: %w; run `make deps`", err)
	}
	cache, err := cacheDir()
	if err != nil {
		return "", fmt.Errorf("find kafka: %w", err)
	}
	jars := filepath.Join(cache, "kafka-"+kafkaVersion)
	if _, err := os.Stat(jars); err != nil {
		return "", fmt.Errorf("find kafka: %w; run `make deps`", err)
	}
	return jars, nil
}

// create chooses the ports, writes the settings and formats the data directory.
func (k *KafkaServer) create(ctx context.Context, o KafkaOptions) error {
	var ports [5]int
	for i := range ports {
		p, err := freePort()
		if err != nil {
			return err
		}
		ports[i] = p
	}
	k.Addr = hostPort(ports[0])
	if o.User != "" {
		k.SASLAddr = hostPort(ports[2])
	}
	if o.Proxied {
		k.inner, k.outer = hostPort(ports[3]), hostPort(ports[4])
	}
	if err := os.MkdirAll(k.Dir, 0o755); err != nil {
		return fmt.Errorf("create directory: %w", err)
	}
	props := kafkaProperties(k, hostPort(ports[1]), o)
	if err := os.WriteFile(k.settings(), props, 0o600); err != nil {
		return fmt.Errorf("write broker settings: %w", err)
	}
	args := append(k.jvm(), "kafka.tools.StorageTool", "format", "--cluster-id", clusterID, "--config", k.settings())
	if o.User != "" {
		args = append(args, "--add-scram", fmt.Sprintf("SCRAM-SHA-256=[name=%s,password=%s]", o.User, o.Password))
	}
	if o.TransactionVersion > 0 {
		args = append(args, "--feature", fmt.Sprintf("transaction.version=%d", o.TransactionVersion))
	}
	if out, err := exec.CommandContext(ctx, "java", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("format data directory: %w: %s", err, out)
	}
	return nil
}

// Proxy starts a proxy before a broker with [KafkaOptions.Proxied]. There can be one at a time.
func (k *KafkaServer) Proxy() (*Proxy, error) { return StartProxy(k.outer, k.inner) }

func (k *KafkaServer) settings() string { return filepath.Join(k.Dir, "server.properties") }

// jvm is tuned for a fast start and little memory, not for speed, unless a heap is set. The class archive is used if it is there and
// fits.
func (k *KafkaServer) jvm() []string {
	if k.heap != "" {
		return []string{
			"-Xms" + k.heap, "-Xmx" + k.heap, "-XX:+UseG1GC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", filepath.Join(k.jars, "*"),
		}
	}
	return []string{
		"-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
		"-Xshare:auto", "-XX:SharedArchiveFile=" + filepath.Join(k.jars, "classes.jsa"),
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", filepath.Join(k.jars, "*"),
	}
}

// Kill ends the broker as a crash would, with SIGKILL, and returns when it is gone. Nothing happens if it has ended.
func (k *KafkaServer) Kill() {
	if k.proc != nil {
		k.proc.kill()
	}
}

// Stop ends the broker in an orderly way, which takes 1 to 2 s; Kill is enough when nobody reads its data again.
func (k *KafkaServer) Stop() {
	if k.proc != nil {
		k.proc.stop()
	}
}

// Restart starts the broker again after Kill or Stop, with the same data and at the same address. It blocks until the
// broker answers, ctx ends or 90 s have passed.
func (k *KafkaServer) Restart(ctx context.Context) error {
	p, err := startProc(filepath.Join(k.Dir, "kafka.log"), "java", append(k.jvm(), "kafka.Kafka", k.settings())...)
	if err != nil {
		return err
	}
	k.proc = p
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.Addr), kgo.DialTimeout(time.Second), kgo.RequestRetries(0))
	if err != nil {
		return fmt.Errorf("connect to kafka: %w", err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, kafkaStartTimeout)
	defer cancel()
	return p.ready(ctx, func(ctx context.Context) error {
		if c, err := net.DialTimeout("tcp", k.Addr, time.Second); err != nil {
			return err // cheaper than the client's own attempts while the port is closed
		} else if err := c.Close(); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		m, err := kadm.NewClient(cl).BrokerMetadata(ctx)
		if err == nil && len(m.Brokers) == 0 {
			return errors.New("the broker doesn't know itself yet")
		}
		return err
	})
}

func hostPort(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
