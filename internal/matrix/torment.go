package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"time"

	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/txn/txntest"
)

// harm is done twice to what the job lives on. It is over when it returns.
type harm func(ctx context.Context, n int, rnd *rand.Rand) error

// torment runs the job to its end and does harm to a server or the network meanwhile.
func (b *board) torment(ctx context.Context, c cell, k txntest.Kills, seed uint64, said func(format string, args ...any)) error {
	do, over, err := b.harm(ctx, c, k.Args)
	if err != nil {
		return err
	}
	defer over()
	k.Args[argRate] = fmt.Sprint(records / 5)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- k.Do(ctx, seed, said) }()
	rnd := rand.New(rand.NewPCG(seed, 6))
	for n := range 2 {
		err := b.await(ctx, c, k.Args, (n+1)*records/4, done)
		if err == nil {
			err = do(ctx, n, rnd)
		}
		if err != nil {
			cancel()
			return errors.Join(fmt.Errorf("%s, the time %d: %w", c.row, n+1, err), <-done)
		}
	}
	return <-done
}

// harm says what a row does. It changes args, if the job is to go by proxies, which over ends.
func (b *board) harm(ctx context.Context, c cell, args map[string]string) (do harm, over func(), err error) {
	switch c.row {
	case brokerKilled:
		return kill(b.broker), func() {}, nil
	case databaseKilled:
		s, err := c.dest.server(ctx, &b.services)
		return kill(s), func() {}, err
	}
	ps, err := b.proxies(args)
	over = func() {
		for _, p := range ps {
			p.Cut()
		}
	}
	if err != nil {
		over()
		return nil, nil, err
	}
	if c.row == networkCut {
		return ps.cut, over, nil
	}
	return ps.slow, over, nil
}

// pause is a time until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-ctx.Done()
}

func upTo(rnd *rand.Rand, d time.Duration) time.Duration { return time.Duration(rnd.Int64N(int64(d))) }

func kill(s server) harm {
	return func(ctx context.Context, _ int, rnd *rand.Rand) error {
		s.Kill()
		pause(ctx, upTo(rnd, time.Second/2))
		return s.Restart(ctx)
	}
}

// network is all that a job's processes reach others by.
type network []*testsvc.Proxy

var hostPort = regexp.MustCompile(`127\.0\.0\.1:\d+`)

// proxies puts a proxy before the broker, and one before the destination's server, and their addresses into args.
func (b *board) proxies(args map[string]string) (ps network, _ error) {
	p, err := b.broker.Proxy()
	if err != nil {
		return nil, err
	}
	direct := args[argBroker]
	ps, args[argBroker] = append(ps, p), p.Addr
	switch upstream := hostPort.FindString(args[argAddr]); upstream {
	case "":
	case direct:
		args[argAddr] = p.Addr
	default:
		if p, err = testsvc.StartProxy("127.0.0.1:0", upstream); err != nil {
			return ps, err
		}
		ps, args[argAddr] = append(ps, p), hostPort.ReplaceAllString(args[argAddr], p.Addr)
	}
	return ps, nil
}

// cut breaks connections and refuses others for a while, the first time; the second time it swallows what is sent.
func (ps network) cut(ctx context.Context, n int, rnd *rand.Rand) error {
	for _, p := range ps {
		if n == 0 {
			p.Cut()
		} else if err := p.Silence(); err != nil {
			return err
		}
	}
	pause(ctx, time.Second/2+upTo(rnd, time.Second))
	return ps.heal(ctx)
}

// slow delays all that is sent, by more than the time between two checkpoints.
func (ps network) slow(ctx context.Context, _ int, rnd *rand.Rand) error {
	by := 50*time.Millisecond + upTo(rnd, 100*time.Millisecond)
	for _, p := range ps {
		if err := p.Slow(by); err != nil {
			return err
		}
	}
	pause(ctx, 3*time.Second)
	return ps.heal(ctx)
}

func (ps network) heal(ctx context.Context) error {
	for _, p := range ps {
		if err := p.Heal(ctx); err != nil {
			return err
		}
	}
	return nil
}

// await waits for so many results. An end of the job comes too early.
func (b *board) await(ctx context.Context, c cell, args map[string]string, results int, done <-chan error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		got, err := b.results(ctx, c, args)
		if err != nil || len(got) >= results {
			return err
		}
		select {
		case err := <-done:
			return fmt.Errorf("%d results, and the job has ended: %w", len(got), errors.Join(err, ctx.Err()))
		case <-tick.C:
		}
	}
}
