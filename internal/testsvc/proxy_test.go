package testsvc_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/internal/testsvc"
)

// talk is a connection to a Redis server that may be behind a proxy.
type talk struct {
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, addr string) talk {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return talk{c, bufio.NewReader(c)}
}

// ping asks, and waits so long for the answer.
func (c talk) ping(patience time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	answer, err := c.r.ReadString('\n')
	if err == nil && answer != "+PONG\r\n" {
		err = errors.New(answer)
	}
	return err
}

func TestProxyCutsSilencesAndSlows(t *testing.T) {
	p, err := testsvc.StartProxy("127.0.0.1:0", testsvc.Redis(t).Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Cut)
	c := dial(t, p.Addr)
	if err := c.ping(time.Minute); err != nil {
		t.Fatal(err)
	}
	p.Cut()
	if err := c.ping(time.Minute); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection that was cut: %v", err)
	}
	if c, err := net.Dial("tcp", p.Addr); err == nil {
		c.Close()
		t.Error("a new connection isn't refused")
	}
	heal(t, p)
	c = dial(t, p.Addr)
	if err := errors.Join(c.ping(time.Minute), p.Slow(100*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := c.ping(time.Minute); err != nil || time.Since(began) < 200*time.Millisecond {
		t.Errorf("there and back, 100 ms each way: %v after %v", err, time.Since(began))
	}
	heal(t, p)
	if err := errors.Join(c.ping(time.Minute), p.Silence()); err != nil {
		t.Fatal(err)
	}
	if err := c.ping(200 * time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a silent connection: %v, want no answer", err)
	}
	heal(t, p)
	if err := c.ping(time.Minute); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection that was silent: %v, want it broken", err)
	}
}

func heal(t *testing.T, p *testsvc.Proxy) {
	t.Helper()
	if err := p.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestKafkaProxied: clients that come by the proxy stay with it.
func TestKafkaProxied(t *testing.T) {
	k := testsvc.NewKafka(t, testsvc.KafkaOptions{Proxied: true})
	p, err := k.Proxy()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Cut)
	cl, err := k.Client(kgo.SeedBrokers(p.Addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 1, 1, nil, "proxied"); err != nil {
		t.Fatal(err)
	}
	r := &kgo.Record{Topic: "proxied", Value: []byte("x")}
	if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := p.Silence(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := kadm.NewClient(cl).ListEndOffsets(ctx, "proxied"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a question through a silent proxy: %v", err)
	}
}
