package blob

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
)

// At gives what Config.Store wants for a location, see Open.
func At(location string) func(store.Options) (store.Store, error) {
	return func(o store.Options) (store.Store, error) { return Open(location, o) }
}

// Open opens the store at a location:
//
//	state                                            a local directory, kept by package store
//	file:///mnt/shared/state                         a directory kept like an object store: no locks, may be mounted twice
//	s3://bucket/prefix?region=eu-central-1           Amazon S3
//	s3://bucket/prefix?endpoint=http://host:9000     another server; the region is us-east-1 unless given
//
// More parameters of s3: virtual_host=true, timeout=10s. Credentials never stand in a location: they come from the
// environment, the profile or the machine's role.
func Open(location string, o store.Options) (store.Store, error) {
	scheme, _, ok := strings.Cut(location, "://")
	if !ok {
		d, err := store.Open(location, o)
		if err != nil {
			return nil, err
		}
		return d, nil
	}
	b, err := bucketAt(scheme, location)
	if err != nil {
		return nil, err
	}
	s, err := OpenBucket(b, o)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func bucketAt(scheme, location string) (Bucket, error) {
	u, err := url.Parse(location)
	if err != nil {
		return nil, fault.New(fault.StateDir, "location of the state can't be read as a URL") // its text may have a secret
	}
	if u.User != nil {
		return nil, fault.New(fault.StateDir, "location %s has a user or password", u.Redacted()).
			WithFix("give credentials by the environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	}
	switch scheme {
	case "file":
		return fileAt(u)
	case "s3":
		return s3At(u)
	default:
		return nil, fault.New(fault.StateDir, "location %s: unknown kind %q", location, scheme).WithFix("use s3://, file:// or a directory")
	}
}

func fileAt(u *url.URL) (Bucket, error) {
	if u.Host != "" || u.Path == "" {
		return nil, fault.New(fault.StateDir, "location %s has no absolute path", u).WithFix("write file:///path")
	}
	return File{Root: filepath.FromSlash(u.Path)}, nil
}

func s3At(u *url.URL) (Bucket, error) {
	o := S3Options{Bucket: u.Host, Prefix: u.Path}
	for name, values := range u.Query() {
		v := values[len(values)-1]
		var err error
		switch name {
		case "endpoint":
			o.Endpoint = v
		case "region":
			o.Region = v
		case "virtual_host":
			o.VirtualHost = v == "true"
		case "timeout":
			o.Timeout, err = time.ParseDuration(v)
		default:
			return nil, fault.New(fault.StateDir, "location %s: unknown parameter %q", u, name).
				WithFix("parameters are endpoint, region, virtual_host and timeout")
		}
		if err != nil || o.Timeout < 0 {
			return nil, fault.New(fault.StateDir, "location %s: parameter %s=%s", u, name, v).WithFix("write a duration such as 10s")
		}
	}
	if o.Bucket == "" {
		return nil, fault.New(fault.StateDir, "location %s names no bucket", u).WithFix("write s3://bucket/prefix")
	}
	if o.Region == "" && o.Endpoint == "" && os.Getenv("AWS_ENDPOINT_URL") != "" {
		o.Endpoint = os.Getenv("AWS_ENDPOINT_URL")
	}
	b, err := NewS3(context.Background(), o)
	if err != nil {
		return nil, advise(fault.Wrap(fault.StateDir, err, "prepare access to %s", u), err)
	}
	return b, nil
}
