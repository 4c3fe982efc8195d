package kafka

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/weirline/weirline/internal/fault"
)

// Client is how to connect. The zero value connects without encryption and without a password.
type Client struct {
	TLS         *tls.Config   // nil = no encryption
	SASL        SASL          // zero = no authentication
	ClientID    string        // name in the broker's logs and quotas; unset = "weirline"
	Rack        string        // where this process runs, to fetch from the nearest replica; unset = from the leader
	DialTimeout time.Duration // for one connection; unset = 10 s
	Timeout     time.Duration // for all questions asked at start, tries included; unset = 10 s
}

// Mechanism is a way to prove who one is.
type Mechanism int

// The mechanisms.
const (
	NoSASL Mechanism = iota
	Plain            // sends the password: use it with TLS only
	ScramSHA256
	ScramSHA512
)

// SASL is a user and a password.
type SASL struct {
	Mechanism Mechanism // how the password is proved; unset = no login
	User      string    // required with a mechanism
	Password  string    // required with a mechanism
}

// String leaves the password out.
func (s SASL) String() string { return fmt.Sprintf("{%d %s}", s.Mechanism, s.User) }

// GoString leaves the password out.
func (s SASL) GoString() string { return s.String() }

func (c Client) timeout() time.Duration { return cmp.Or(c.Timeout, 10*time.Second) }

func (c Client) validate() error {
	switch {
	case c.SASL.Mechanism < NoSASL || c.SASL.Mechanism > ScramSHA512:
		return errors.New("Client.SASL.Mechanism is none of the known ones")
	case c.SASL.Mechanism == NoSASL && c.SASL.User != "":
		return errors.New("Client.SASL.User is set without a Mechanism")
	case c.SASL.Mechanism != NoSASL && c.SASL.User == "":
		return errors.New("Client.SASL.Mechanism is set without a User")
	case c.DialTimeout < 0 || c.Timeout < 0:
		return errors.New("Client.DialTimeout and Client.Timeout can't be negative")
	}
	return nil
}

// options are the client library's settings for any use.
func (c Client) options(brokers []string) []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(brokers...),
		kgo.ClientID(cmp.Or(c.ClientID, "weirline")),
		kgo.DialTimeout(cmp.Or(c.DialTimeout, 10*time.Second)),
		kgo.MetadataMinAge(250 * time.Millisecond),
	}
	if c.TLS != nil {
		opts = append(opts, kgo.DialTLSConfig(c.TLS))
	}
	switch c.SASL.Mechanism {
	case Plain:
		opts = append(opts, kgo.SASL(plain.Auth{User: c.SASL.User, Pass: c.SASL.Password}.AsMechanism()))
	case ScramSHA256:
		opts = append(opts, kgo.SASL(scram.Auth{User: c.SASL.User, Pass: c.SASL.Password}.AsSha256Mechanism()))
	case ScramSHA512:
		opts = append(opts, kgo.SASL(scram.Auth{User: c.SASL.User, Pass: c.SASL.Password}.AsSha512Mechanism()))
	case NoSASL:
	}
	return opts
}

// ask calls f again until it succeeds, fails for good, or the time limit is over.
func (c Client) ask(ctx context.Context, brokers []string, f func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, c.timeout())
	defer cancel()
	var last error
	for {
		err := f(limited)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case fault.CodeOf(err) != "":
			return err
		case refused(err):
			return fault.Wrap(fault.AuthFailed, err, "connect to %s", strings.Join(brokers, ","))
		}
		if k, ok := errors.AsType[*kerr.Error](err); ok && !k.Retriable {
			return fault.Wrap(fault.Unreadable, err, "ask %s", strings.Join(brokers, ","))
		}
		if limited.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-limited.Done():
			if c.SASL.Mechanism != NoSASL && errors.Is(last, io.EOF) { // how some brokers say no
				return fault.Wrap(fault.AuthFailed, last, "%s closes the connection while this user logs in", strings.Join(brokers, ","))
			}
			return fault.Wrap(fault.Unreachable, last, "no answer from %s within %v", strings.Join(brokers, ","), c.timeout())
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// refused says that the broker answered and doesn't let this user in.
func refused(err error) bool {
	for _, e := range []error{
		kerr.SaslAuthenticationFailed, kerr.UnsupportedSaslMechanism, kerr.IllegalSaslState,
		kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed, kerr.ClusterAuthorizationFailed,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
