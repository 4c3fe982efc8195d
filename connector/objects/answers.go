package objects

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/s3client"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

// rule is the decision for one answer of the server.
type rule struct {
	never  bool // to a writer: no repetition heals it. Unset: its task restarts and writes again
	commit txn.Outcome
	fix    string // unset: the code's own
}

const (
	again  = txn.Again
	stop   = txn.Stop
	absent = txn.Absent
	lost   = txn.Lost
)

const (
	fixBucket = "create the bucket, or correct Bucket"
	fixKeys   = "check AccessKey and SecretKey, or the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), the profile or the role of this machine"
	fixRight  = "allow s3:PutObject, s3:GetObject, s3:AbortMultipartUpload and s3:ListMultipartUploadParts on the objects, " +
		"and s3:ListBucket and s3:ListBucketMultipartUploads on the bucket"
	fixPutRight = "allow s3:PutObject on the objects, and s3:DeleteObject if Delete is set"
	fixRegion   = "set Region to the bucket's, and Endpoint to that region's server if it is set"
	fixServer   = "use a server with multipart uploads; docs/connectors/objects.md says what is needed"
	fixBusy     = "the server takes fewer requests; it is asked again, later: raise the checkpoint interval, or spread the prefixes"
	fixSpace    = "free space in the store, or raise its quota"
	fixClock    = "set this machine's clock"
	fixParts    = "set PartSize to what the server takes"
	fixAway     = "check Endpoint, the network and that the server is up"
	fixGone     = "see that no lifecycle rule and nobody else aborts the uploads of a living job"
)

// codes are the answers with a code, which win over statuses. The client has repeated those that may heal, for as long as Timeout.
// What is listed nowhere is tried again if the server is at fault (5xx), and is final if the request is.
var codes = map[string]rule{
	"NoSuchUpload": {false, absent, fixGone},
	"NotFound":     {true, stop, fixServer}, // what the client calls a 404 without a code: something else answers

	"InvalidPart":      {false, lost, "find out who has written other parts under the same upload"},
	"InvalidPartOrder": {true, stop, ""},
	"EntityTooSmall":   {true, stop, fixParts + "; this one takes no parts as small"},
	"EntityTooLarge":   {true, stop, fixParts + "; this one takes no parts as large"},
	"MaxMessageLength": {true, stop, fixParts + "; this one takes no parts as large"},
	"KeyTooLongError":  {true, stop, "give Prefix, Folder, the job or the operator shorter names"},

	"NoSuchBucket":      {true, stop, fixBucket},
	"InvalidBucketName": {true, stop, fixBucket},

	"AccessDenied":          {true, stop, fixRight},
	"Forbidden":             {true, stop, fixRight}, // of a HEAD
	"AllAccessDisabled":     {true, stop, fixRight},
	"InvalidAccessKeyId":    {true, stop, fixKeys},
	"XAdminUserNotFound":    {true, stop, fixKeys},
	"SignatureDoesNotMatch": {true, stop, fixKeys},
	"InvalidToken":          {true, stop, fixKeys},
	"ExpiredToken":          {false, again, fixKeys}, // another may come
	"RequestTimeTooSkewed":  {true, stop, fixClock},
	"RequestExpired":        {false, again, fixClock},
	"QuotaExceeded":         {false, again, fixSpace},
	"XMinioStorageFull":     {false, again, fixSpace},
	"InsufficientCapacity":  {false, again, fixSpace},
	"InvalidObjectState":    {true, stop, ""},

	"PermanentRedirect":              {true, stop, fixRegion},
	"TemporaryRedirect":              {false, again, ""},
	"AuthorizationHeaderMalformed":   {true, stop, fixRegion},
	"IllegalLocationConstraintError": {true, stop, fixRegion},
	"NotImplemented":                 {true, stop, fixServer},
	"MethodNotAllowed":               {true, stop, fixServer},

	"SlowDown":               {false, again, fixBusy},
	"SlowDownWrite":          {false, again, fixBusy},
	"SlowDownRead":           {false, again, fixBusy},
	"TooManyRequests":        {false, again, fixBusy},
	"RequestLimitExceeded":   {false, again, fixBusy},
	"BandwidthLimitExceeded": {false, again, fixBusy},

	"InternalError":              {false, again, ""},
	"ServiceUnavailable":         {false, again, ""},
	"RequestTimeout":             {false, again, ""},
	"IncompleteBody":             {false, again, ""},
	"BadDigest":                  {false, again, "the network or a proxy changes what is sent"},
	"XAmzContentSHA256Mismatch":  {false, again, "the network or a proxy changes what is sent"},
	"OperationAborted":           {false, again, ""},
	"ConditionalRequestConflict": {false, again, ""},
}

// statuses are those without a code that is listed.
var statuses = map[int]rule{
	0:                              {false, again, fixAway},
	http.StatusMovedPermanently:    {true, stop, fixRegion},
	http.StatusTemporaryRedirect:   {false, again, ""},
	http.StatusUnauthorized:        {true, stop, fixKeys},
	http.StatusForbidden:           {true, stop, fixRight},
	http.StatusNotFound:            {true, stop, fixServer},
	http.StatusMethodNotAllowed:    {true, stop, fixServer},
	http.StatusRequestTimeout:      {false, again, ""},
	http.StatusConflict:            {false, again, ""},
	http.StatusTooManyRequests:     {false, again, fixBusy},
	http.StatusNotImplemented:      {true, stop, fixServer},
	http.StatusServiceUnavailable:  {false, again, fixBusy},
	http.StatusInsufficientStorage: {false, again, fixSpace},
}

func ruleOf(err error) rule {
	status, code := s3client.Answer(err)
	if r, ok := codes[code]; ok {
		return r
	}
	if r, ok := statuses[status]; ok {
		return r
	}
	if status >= http.StatusInternalServerError || errors.Is(err, context.Canceled) {
		return rule{commit: again}
	}
	return rule{never: true, commit: stop}
}

// gone says whether an upload isn't there.
func gone(err error) bool { return err != nil && ruleOf(err).commit == absent }

// failed makes an error of what a writer met.
func (s *store) failed(err error, what string, args ...any) error {
	r := ruleOf(err)
	return s.fault(fault.SinkFailed, r, r.never, err, fmt.Sprintf(what, args...))
}

// uncommitted makes an error of what a committer met.
func (s *store) uncommitted(err error, what string, args ...any) error {
	r := ruleOf(err)
	return s.fault(fault.CommitFailed, r, r.commit == stop, err, fmt.Sprintf(what, args...))
}

// unfit makes an error of what the check at start met.
func (s *store) unfit(err error, what string, args ...any) error {
	r := ruleOf(err)
	code := fault.Preflight
	status, _ := s3client.Answer(err)
	switch {
	case status == 0:
		code = fault.Unreachable
	case r.fix == fixKeys:
		code = fault.AuthFailed
	}
	return s.fault(code, r, false, err, fmt.Sprintf(what, args...))
}

func (s *store) fault(c fault.Code, r rule, final bool, err error, what string) error {
	f := fault.Wrap(c, err, "objects: %s", what)
	if r.fix == fixRight && s.o.plain {
		r.fix = fixPutRight
	}
	if r.fix != "" {
		f = f.WithFix("%s", r.fix)
	}
	if final {
		return sink.Permanent(f)
	}
	return f
}
