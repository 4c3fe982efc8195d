package objects

import (
	"cmp"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

// decisions is the table of the connector as this test sees it: a status and a code, what a commit makes of it, whether a writer
// gives up for good, and a word of what to do.
var decisions = []struct {
	status int
	code   string
	commit txn.Outcome
	never  bool
	fix    string
}{
	{404, "NoSuchUpload", txn.Absent, false, "lifecycle"},
	{404, "NoSuchKey", txn.Stop, true, "docs/connectors"},
	{404, "NotFound", txn.Stop, true, "docs/connectors"},
	{404, "", txn.Stop, true, "docs/connectors"},
	{400, "InvalidPart", txn.Lost, false, "other parts"},
	{400, "InvalidPartOrder", txn.Stop, true, ""},
	{400, "EntityTooSmall", txn.Stop, true, "PartSize"},
	{400, "EntityTooLarge", txn.Stop, true, "PartSize"},
	{400, "MaxMessageLength", txn.Stop, true, "PartSize"},
	{400, "KeyTooLongError", txn.Stop, true, "shorter"},
	{404, "NoSuchBucket", txn.Stop, true, "create the bucket"},
	{400, "InvalidBucketName", txn.Stop, true, "Bucket"},
	{403, "AccessDenied", txn.Stop, true, "s3:PutObject"},
	{403, "Forbidden", txn.Stop, true, "s3:PutObject"},
	{403, "AllAccessDisabled", txn.Stop, true, "s3:PutObject"},
	{403, "InvalidAccessKeyId", txn.Stop, true, "AccessKey"},
	{404, "XAdminUserNotFound", txn.Stop, true, "AccessKey"},
	{403, "SignatureDoesNotMatch", txn.Stop, true, "SecretKey"},
	{400, "InvalidToken", txn.Stop, true, "profile"},
	{400, "ExpiredToken", txn.Again, false, "profile"},
	{403, "RequestTimeTooSkewed", txn.Stop, true, "clock"},
	{403, "RequestExpired", txn.Again, false, "clock"},
	{403, "QuotaExceeded", txn.Again, false, "quota"},
	{507, "XMinioStorageFull", txn.Again, false, "space"},
	{503, "InsufficientCapacity", txn.Again, false, "space"},
	{403, "InvalidObjectState", txn.Stop, true, ""},
	{301, "PermanentRedirect", txn.Stop, true, "Region"},
	{307, "TemporaryRedirect", txn.Again, false, ""},
	{400, "AuthorizationHeaderMalformed", txn.Stop, true, "Region"},
	{400, "IllegalLocationConstraintError", txn.Stop, true, "Region"},
	{501, "NotImplemented", txn.Stop, true, "multipart"},
	{405, "MethodNotAllowed", txn.Stop, true, "multipart"},
	{503, "SlowDown", txn.Again, false, "fewer requests"},
	{503, "SlowDownWrite", txn.Again, false, "fewer requests"},
	{503, "SlowDownRead", txn.Again, false, "fewer requests"},
	{429, "TooManyRequests", txn.Again, false, "fewer requests"},
	{503, "RequestLimitExceeded", txn.Again, false, "fewer requests"},
	{509, "BandwidthLimitExceeded", txn.Again, false, "fewer requests"},
	{500, "InternalError", txn.Again, false, ""},
	{200, "InternalError", txn.Again, false, ""}, // the protocol allows it for a completion
	{503, "ServiceUnavailable", txn.Again, false, ""},
	{400, "RequestTimeout", txn.Again, false, ""},
	{400, "IncompleteBody", txn.Again, false, ""},
	{400, "BadDigest", txn.Again, false, "proxy"},
	{400, "XAmzContentSHA256Mismatch", txn.Again, false, "proxy"},
	{409, "OperationAborted", txn.Again, false, ""},
	{409, "ConditionalRequestConflict", txn.Again, false, ""},

	// Statuses, of codes that are listed nowhere.
	{301, "Other", txn.Stop, true, "Region"},
	{307, "Other", txn.Again, false, ""},
	{400, "Other", txn.Stop, true, ""},
	{401, "Other", txn.Stop, true, "AccessKey"},
	{403, "Other", txn.Stop, true, "s3:PutObject"},
	{404, "Other", txn.Stop, true, "multipart"},
	{405, "Other", txn.Stop, true, "multipart"},
	{408, "Other", txn.Again, false, ""},
	{409, "Other", txn.Again, false, ""},
	{429, "Other", txn.Again, false, "fewer requests"},
	{500, "Other", txn.Again, false, ""},
	{501, "Other", txn.Stop, true, "multipart"},
	{502, "Other", txn.Again, false, ""},
	{503, "Other", txn.Again, false, "fewer requests"},
	{507, "Other", txn.Again, false, "space"},
	{0, "", txn.Again, false, "Endpoint"}, // the connection breaks
}

// TestAnswers has every row, as the client gets it from a server.
func TestAnswers(t *testing.T) {
	var status int
	var code string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if status == 0 {
			panic(http.ErrAbortHandler)
		}
		refuse(w, status, code)
	}))
	defer srv.Close()
	o := place(strings.TrimPrefix(srv.URL, "http://")).settings()
	o.client.Attempts = 1
	s, err := o.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	r := &resource{s: s, missed: map[string]time.Time{}}
	tested := map[string]bool{}
	for _, d := range decisions {
		status, code = d.status, d.code
		tested[d.code] = true
		if d.status > 0 {
			tested[http.StatusText(cmp.Or(d.status, 1))] = true
		}
		ob := object{Key: o.keyOf("", "job-out-1", txn.NewToken(), 0), Upload: "u", Parts: []string{"e"}}
		outcome, err := r.commit(t.Context(), o.bucket, ob)
		if outcome != d.commit || err == nil || sink.IsPermanent(err) != (d.commit == txn.Stop) || fault.CodeOf(err) != fault.CommitFailed.ID {
			t.Errorf("commit meets %d %s: outcome %d, %v (permanent: %v), want outcome %d", d.status, d.code, outcome, err, sink.IsPermanent(err), d.commit)
		}
		if !strings.Contains(err.Error(), d.fix) {
			t.Errorf("commit meets %d %s: %v doesn't say %q", d.status, d.code, err, d.fix)
		}
		if d.status == http.StatusOK {
			continue // only completions may be answered so
		}
		_, err = s.put(t.Context(), ob.Key, "u", 1, []byte("x"))
		if err == nil {
			t.Fatalf("a part meets %d %s: success", d.status, d.code)
		}
		if err := s.failed(err, "upload"); sink.IsPermanent(err) != d.never || fault.CodeOf(err) != fault.SinkFailed.ID {
			t.Errorf("a part meets %d %s: %v, permanent: %v", d.status, d.code, err, sink.IsPermanent(err))
		}
	}
	for code := range codes {
		if !tested[code] {
			t.Errorf("the row of %s isn't tested", code)
		}
	}
	for status := range statuses {
		if status > 0 && !tested[http.StatusText(status)] {
			t.Errorf("the row of %d isn't tested", status)
		}
	}
}
