package blob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"

	"github.com/weirline/weirline/internal/s3client"
)

// deniedError is a refusal with what the user can do about it.
type deniedError struct {
	code, advice string
	err          error
}

func (e *deniedError) Error() string { return e.err.Error() }

func (e *deniedError) Unwrap() []error { return []error{e.err, ErrRefused} }

// Advice implements Advice.
func (e *deniedError) Advice() string { return e.advice }

// explain gives a client's error its meaning. Action is the permission the request needs.
func (b *S3) explain(action string, err error) error {
	if err == nil {
		return nil
	}
	status, code := s3client.Answer(err)
	switch {
	case status == http.StatusPreconditionFailed:
		return fmt.Errorf("%w: %w", fs.ErrExist, err)
	case code == "NoSuchBucket":
		return b.denied(code, err, "create the bucket %s, or correct its name", b.o.Bucket)
	case status == http.StatusNotFound && (code == "" || code == "NoSuchKey" || code == "NotFound" || code == "NoSuchUpload"):
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	case code == "InvalidAccessKeyId", code == "SignatureDoesNotMatch", code == "ExpiredToken", code == "InvalidToken",
		code == "XAdminUserNotFound", status == http.StatusUnauthorized:
		return b.denied(code, err, "check the credentials: the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), the profile or the role of this machine")
	case status == http.StatusForbidden:
		return b.denied(code, err, "allow %s on %s; docs/object-stores.md lists every permission that is needed", action, b)
	case status == http.StatusMovedPermanently || code == "AuthorizationHeaderMalformed" || code == "PermanentRedirect":
		return b.denied(code, err, "give the bucket's region as ?region=NAME")
	case status == http.StatusNotImplemented:
		return b.denied(code, err, "the server lacks what is needed; use one with conditional writes (If-None-Match: *)")
	case status >= 400 && status < 500 && status != http.StatusRequestTimeout && status != http.StatusConflict && status != http.StatusTooManyRequests:
		return fmt.Errorf("%w: %w", ErrRefused, err)
	case status == 0 && !errors.Is(err, context.Canceled):
		return &unreachableError{err: err, endpoint: b.o.Endpoint}
	}
	return err
}

func (b *S3) denied(code string, err error, advice string, args ...any) error {
	return &deniedError{code: code, err: err, advice: fmt.Sprintf(advice, args...)}
}

// unreachableError is one without an answer. Whether the request had an effect isn't known.
type unreachableError struct {
	err      error
	endpoint string
}

func (e *unreachableError) Error() string { return e.err.Error() }
func (e *unreachableError) Unwrap() error { return e.err }

// Advice implements Advice.
func (e *unreachableError) Advice() string {
	if e.endpoint == "" {
		return "check network, region and credentials; set AWS_REGION and credentials, or give ?endpoint=URL for another server than Amazon's"
	}
	return fmt.Sprintf("check that the server at %s is up and can be reached", e.endpoint)
}
