package objects

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink/parts"
	"github.com/weirline/weirline/txn"
)

// TestPreflight has what is wrong with a server, a bucket or a user, as the real server or one before it answers. Afterwards
// nothing is left in the bucket.
func TestPreflight(t *testing.T) {
	srv := testsvc.S3(t)
	b := before(t, srv)
	good := place(b.addr)
	with := func(change func(s *TxSink[string])) TxSink[string] {
		s := good
		s.Timeout, s.Prefix = time.Second, fmt.Sprintf("preflight%d", places.Add(1))
		change(&s)
		return s
	}
	denied := func(kind string) func() { return func() { b.answers(kind, http.StatusForbidden, "AccessDenied") } }
	lies := func(kind, body string) func() {
		return func() {
			b.on(kind, func(_ int, w http.ResponseWriter, _ func()) { _, _ = fmt.Fprint(w, body) })
		}
	}
	none := func() {}
	same := func(*TxSink[string]) {}
	for name, c := range map[string]struct {
		change func(s *TxSink[string])
		server func()
		code   fault.Code
		says   []string
	}{
		"all is well":        {same, none, fault.Code{}, nil},
		"no such bucket":     {func(s *TxSink[string]) { s.Bucket = "nowhere" }, none, fault.Preflight, []string{"nowhere", "create the bucket"}},
		"no such user":       {func(s *TxSink[string]) { s.AccessKey = "nobody" }, none, fault.AuthFailed, []string{"AccessKey"}},
		"wrong secret":       {func(s *TxSink[string]) { s.SecretKey = "wrong" }, none, fault.AuthFailed, []string{"SecretKey"}},
		"nobody listens":     {func(s *TxSink[string]) { s.Endpoint = "http://127.0.0.1:1" }, none, fault.Unreachable, []string{"Endpoint"}},
		"another region":     {same, func() { b.answers(reqCreate, http.StatusMovedPermanently, "PermanentRedirect") }, fault.Preflight, []string{"Region"}},
		"its name is signed": {same, func() { b.answers(reqCreate, http.StatusBadRequest, "AuthorizationHeaderMalformed") }, fault.Preflight, []string{"Region"}},
		"may not look":       {same, func() { b.answers(reqHead, http.StatusForbidden, "") }, fault.Preflight, []string{"look for an object", "s3:ListBucket"}},
		"may not begin":      {same, denied(reqCreate), fault.Preflight, []string{"begin a multipart upload", "s3:PutObject"}},
		"may not upload":     {same, denied(reqPart), fault.Preflight, []string{"upload a part", "s3:PutObject"}},
		"may not list":       {same, denied(reqUploads), fault.Preflight, []string{"list the multipart uploads", "s3:ListBucketMultipartUploads"}},
		"may not list parts": {same, denied(reqParts), fault.Preflight, []string{"list the parts", "s3:ListMultipartUploadParts"}},
		"may not abort":      {same, denied(reqAbort), fault.Preflight, []string{"abort an upload", "s3:AbortMultipartUpload"}},
		"no multipart":       {same, func() { b.answers(reqCreate, http.StatusNotImplemented, "NotImplemented") }, fault.Preflight, []string{"multipart"}},
		"not such a server":  {same, func() { b.answers(reqCreate, http.StatusNotFound, "") }, fault.Preflight, []string{"docs/connectors/objects.md"}},
		"lists nothing":      {same, lies(reqUploads, "<ListMultipartUploadsResult></ListMultipartUploadsResult>"), fault.Preflight, []string{"doesn't list"}},
		"loses parts":        {same, lies(reqParts, "<ListPartsResult></ListPartsResult>"), fault.Preflight, []string{"lists parts []"}},
		"aborts nothing":     {same, lies(reqAbort, ""), fault.Preflight, []string{"still lists"}},
		"always says yes":    {same, lies(reqComplete, "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>"), fault.Preflight, []string{"look like success"}},
	} {
		t.Run(name, func(t *testing.T) {
			b.on("", nil)
			c.server()
			s := with(c.change)
			err := s.Preflight(t.Context())
			if fault.CodeOf(err) != c.code.ID || (err != nil) != (c.code.ID != "") {
				t.Errorf("got %v, want %q", err, c.code.ID)
			}
			for _, word := range c.says {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%v doesn't say %q", err, word)
				}
			}
			if err != nil && strings.Contains(err.Error(), testsvc.S3SecretKey) {
				t.Errorf("%v has the secret", err)
			}
			if got, err := srv.Objects(t.Context(), s.Prefix+"/"); err != nil || len(got) > 0 {
				t.Errorf("objects %v, %v", got, err)
			}
			left, err := srv.Uploads(t.Context(), s.Prefix+"/")
			if err != nil || (len(left) > 0) != (name == "may not abort" || name == "aborts nothing") {
				t.Errorf("left: %q, %v", left, err)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	good := TxSink[string]{Bucket: "b"}
	for name, c := range map[string]struct {
		change func(s *TxSink[string])
		says   string
	}{
		"nothing":          {func(*TxSink[string]) {}, ""},
		"all":              {func(s *TxSink[string]) { *s = full }, ""},
		"no bucket":        {func(s *TxSink[string]) { s.Bucket = "" }, "Bucket"},
		"a URL":            {func(s *TxSink[string]) { s.Bucket = "s3://b/x" }, "Prefix and Endpoint"},
		"prefix":           {func(s *TxSink[string]) { s.Prefix = "a//b" }, "Prefix"},
		"long prefix":      {func(s *TxSink[string]) { s.Prefix = strings.Repeat("a/", 300) + "a" }, "Prefix"},
		"suffix":           {func(s *TxSink[string]) { s.Suffix = "csv" }, "begin with a dot"},
		"suffix of a path": {func(s *TxSink[string]) { s.Suffix = ".x/y" }, "slashes"},
		"long suffix":      {func(s *TxSink[string]) { s.Suffix = "." + strings.Repeat("x", 48) }, "Suffix"},
		"small parts":      {func(s *TxSink[string]) { s.PartSize = 5<<20 - 1 }, "5 MiB"},
		"large parts":      {func(s *TxSink[string]) { s.PartSize = 1<<30 + 1 }, "1 GiB"},
		"negative parts":   {func(s *TxSink[string]) { s.PartSize = -1 }, "PartSize"},
		"negative uploads": {func(s *TxSink[string]) { s.Uploads = -1 }, "Uploads"},
		"negative timeout": {func(s *TxSink[string]) { s.Timeout = -1 }, "Timeout"},
		"no scheme":        {func(s *TxSink[string]) { s.Endpoint = "host:9000" }, "Endpoint"},
		"keys in the URL":  {func(s *TxSink[string]) { s.Endpoint = "http://u:sesame@host" }, "AccessKey"},
		"half a key":       {func(s *TxSink[string]) { s.AccessKey = "x" }, "set both"},
		"policy":           {func(s *TxSink[string]) { s.Lost = 7 }, "Lost"},
		"format":           {func(s *TxSink[string]) { s.Format = parts.CSV[string]{} }, "Row is missing"},
	} {
		s := good
		c.change(&s)
		_, werr := s.TxWriter(t.Context(), task())
		errs := []error{werr}
		if name != "format" { // only a writer has encoders
			_, cerr := s.Committer(t.Context(), task())
			errs = append(errs, cerr, s.Validate())
		}
		for _, err := range errs {
			if (err != nil) != (c.says != "") || err != nil && (fault.CodeOf(err) != fault.BadPipeline.ID || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%s: %v, want %q", name, err, c.says)
			}
			if err != nil && strings.Contains(err.Error(), "sesame") {
				t.Errorf("%s: %v has the password", name, err)
			}
		}
	}
}

var full = TxSink[string]{
	Bucket: "b", Prefix: "/a/b/", Suffix: ".csv.gz", Format: parts.Text[string]{}, Folder: folders, Rolling: parts.Rolling{Size: -1},
	PartSize: 1 << 30, Uploads: 1, MaxOpen: -1, Endpoint: "https://host", Region: "eu-central-1", VirtualHost: true,
	AccessKey: "k", SecretKey: "s", Timeout: time.Hour, Lost: txn.AcceptLoss,
}
