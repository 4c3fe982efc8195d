package objects

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/txn"
)

// preflight makes an upload and gives it up, and looks whether the server says so.
func (o settings) preflight(ctx context.Context) error {
	s, err := o.open(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	token := txn.NewToken()
	key := o.prefix + "weirline-preflight-" + token
	id, err := s.create(ctx, key, "preflight", token)
	if err != nil {
		return s.unfit(err, "begin a multipart upload in bucket %s", o.bucket)
	}
	err = s.tryUpload(ctx, upload{key: key, id: id})
	if err == nil {
		return nil
	}
	if aerr := s.abort(ctx, upload{key: key, id: id}); aerr != nil && !gone(aerr) {
		err = errors.Join(err, s.unfit(aerr, "abort the upload of %s", key))
	}
	return err
}

// tryUpload does with an upload what the sink and its recovery do, but for completing it.
func (s *store) tryUpload(ctx context.Context, u upload) error {
	etag, err := s.put(ctx, u.key, u.id, 1, []byte("weirline"))
	if err != nil {
		return s.unfit(err, "upload a part to bucket %s", s.o.bucket)
	}
	there, err := s.listed(ctx, u)
	if err != nil {
		return err
	}
	if !there {
		return refused("the server doesn't list an upload that was begun, and recovery couldn't find it")
	}
	o, whole, err := s.parts(ctx, s.o.bucket, u)
	if err != nil {
		return s.unfit(err, "list the parts of an upload in bucket %s", s.o.bucket)
	}
	if !whole || o.Parts[0] != etag {
		return refused("the server lists parts %q of an upload whose only part is %q", o.Parts, etag)
	}
	if err := s.abort(ctx, u); err != nil {
		return s.unfit(err, "abort an upload in bucket %s", s.o.bucket)
	}
	if there, err = s.listed(ctx, u); err != nil || there {
		return errors.Join(err, refused("the server still lists an upload that was aborted"))
	}
	if err := s.complete(ctx, s.o.bucket, o); !gone(err) {
		if err == nil {
			return refused("the server says that an upload is complete which was aborted: a loss would look like success")
		}
		return s.unfit(err, "ask bucket %s for an upload that was aborted", s.o.bucket)
	}
	_, _, there, err = s.look(ctx, s.o.bucket, u.key)
	if err != nil {
		return s.unfit(err, "look for an object in bucket %s", s.o.bucket)
	}
	if there {
		return refused("the server has an object of an upload that was aborted")
	}
	return nil
}

func (s *store) listed(ctx context.Context, u upload) (bool, error) {
	found, err := s.uploads(ctx, u.key)
	if err != nil {
		return false, s.unfit(err, "list the multipart uploads of bucket %s", s.o.bucket)
	}
	return slices.ContainsFunc(found, func(f upload) bool { return f.id == u.id }), nil
}

func refused(what string, args ...any) error {
	return fault.New(fault.Preflight, "objects: "+what, args...).WithFix(fixServer)
}

// shortDays is how long uploads should be left alone at least.
const shortDays = 7

// warnOfRules says which lifecycle rules would abort what a job that is down has prepared. Who may not ask isn't told.
func (r *resource) warnOfRules(ctx context.Context) {
	ctx, cancel := r.s.limit(ctx)
	defer cancel()
	out, err := r.s.c.GetBucketLifecycleConfiguration(ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: aws.String(r.s.o.bucket)})
	if err != nil {
		return
	}
	for _, rule := range out.Rules {
		a := rule.AbortIncompleteMultipartUpload
		if a == nil || rule.Status != types.ExpirationStatusEnabled || !overlap(rulePrefix(rule), r.s.o.prefix) {
			continue
		}
		if days := aws.ToInt32(a.DaysAfterInitiation); days < shortDays {
			r.t.Log.Warn("a lifecycle rule of the bucket aborts multipart uploads: a job that is down for longer loses what it has prepared; "+
				"raise DaysAfterInitiation", "bucket", r.s.o.bucket, "rule", aws.ToString(rule.ID), "days", days, "advised", shortDays)
		}
	}
}

// rulePrefix is what keys begin with for which a rule holds.
func rulePrefix(r types.LifecycleRule) string {
	switch f := r.Filter; {
	case f == nil:
		//lint:ignore SA1019 older rules have it there
		return aws.ToString(r.Prefix)
	case f.And != nil:
		return aws.ToString(f.And.Prefix)
	default:
		return aws.ToString(f.Prefix)
	}
}

func overlap(a, b string) bool { return strings.HasPrefix(a, b) || strings.HasPrefix(b, a) }
