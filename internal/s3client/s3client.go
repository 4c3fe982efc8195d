// Package s3client makes the client of object stores that the checkpoint store and the sink share: where the server is, who asks,
// how often a request is repeated, and what of an error's answer decisions are made by.
//
//	c, err := s3client.New(ctx, s3client.Options{Endpoint: "http://host:9000"})
//	defer c.Close()
//
// The client may be used by any number of goroutines, and starts none but those of net/http.
package s3client

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
)

// Options say where a server is and how to get in.
type Options struct {
	Endpoint             string // URL. Unset: that of Amazon, or AWS_ENDPOINT_URL
	Region               string // Unset: AWS_REGION, the profile's, or with an Endpoint us-east-1
	VirtualHost          bool   // the bucket's name is in the host's even with an Endpoint. Unset: in the path there
	AccessKey, SecretKey string // Unset: the usual chain: environment, profile, web identity, instance role
	Attempts             int    // of one request, within its context. Unset: 3

	MaxPause time.Duration // between two of them. Unset: 1 s
}

// Client is the SDK's, with a way to end its connections.
type Client struct {
	*s3.Client
	conns conns
}

// New makes a client. It makes no request but those that find credentials.
func New(ctx context.Context, o Options) (*Client, error) {
	if o.Region == "" && o.Endpoint != "" {
		o.Region = "us-east-1"
	}
	var load []func(*config.LoadOptions) error
	if o.Region != "" {
		load = append(load, config.WithRegion(o.Region))
	}
	if o.AccessKey != "" {
		load = append(load, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(o.AccessKey, o.SecretKey, "")))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, err
	}
	c := &Client{conns: conns{all: map[*conn]bool{}}}
	c.Client = s3.NewFromConfig(cfg, func(so *s3.Options) {
		if own, ok := so.HTTPClient.(*awshttp.BuildableClient); ok {
			so.HTTPClient = own.WithTransportOptions(c.conns.watch).Freeze()
		}
		if o.Endpoint != "" {
			so.BaseEndpoint = aws.String(o.Endpoint)
			so.UsePathStyle = !o.VirtualHost
		}
		so.Retryer = retry.NewStandard(func(ro *retry.StandardOptions) {
			ro.MaxBackoff = cmp.Or(o.MaxPause, time.Second)
			if o.Attempts > 0 {
				ro.MaxAttempts = o.Attempts
			}
		})
		// Other servers than Amazon's don't know the newer checksums; what is sent is signed with its own.
		so.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		so.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	})
	return c, nil
}

// Close ends all connections. No request is on its way any more, and none follows.
func (c *Client) Close() { c.conns.close() }

// Answer is what a server said: the HTTP status, 0 if there was no answer, and the error's code, "" if it gave none.
func Answer(err error) (status int, code string) {
	if re, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		status = re.HTTPStatusCode()
	}
	if ae, ok := errors.AsType[smithy.APIError](err); ok {
		code = ae.ErrorCode()
	}
	return status, code
}
