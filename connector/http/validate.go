package httpsink

import (
	"errors"
	"net/url"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/rest"
)

// Validate says everything that is wrong with the settings. Writer calls it too.
func (s Sink[T]) Validate() error {
	var errs []error
	bad := func(wrong bool, what, fix string) {
		if wrong {
			errs = append(errs, fault.New(fault.BadPipeline, "http sink: %s", what).WithFix("%s", fix))
		}
	}
	bad(s.URL == "" && s.To == nil && s.Encode == nil, "URL is missing", "set URL to where requests go, or To to the function that says where a record goes")
	bad(s.URL != "" && s.To != nil, "both URL and To are set", "set To only, if it gives whole URLs, or URL only")
	if s.URL != "" {
		bad(badURL(s.URL) != nil, "URL can't be used", "set URL to an address that begins with http:// or https://")
	}
	bad(s.Form < Single || s.Form > JSONLines, "Form is none of the known ones", "set Form to Single, JSONArray or JSONLines")
	bad(s.Encode != nil && (s.To != nil || s.Form != Single || s.Body != nil), "To, Form or Body is set beside Encode",
		"leave them out; Encode makes the whole request")
	bad(s.Encode != nil && s.ID != nil, "ID is set beside Encode", "put the key into Request.Header, and set Repeatable")
	bad(s.ID != nil && s.Form != Single, "ID is set, and Form puts several records into a request, which can have only one key",
		"set Form to Single; or leave ID out, and set Repeatable if the body carries ids by which the service tells repetitions")
	bad(s.IDHeader != "" && s.ID == nil, "IDHeader is set without ID", "set ID to the function that gives a record's key")
	bad(s.single() && s.Batching.MaxBatch > 1, "Batching.MaxBatch is set, and requests carry one record each",
		"leave it out, or set Form to JSONArray or JSONLines")
	for status, o := range s.Rules {
		bad(status < 100 || status > 599 || o < Done || o > Fail, "Rules has an unknown status or outcome", "use statuses from 100 to 599, and Done, Again, Reject or Fail")
	}
	bad(s.MaxAnswer < 0, "MaxAnswer is negative", "set MaxAnswer to 1 or more, or leave it out")
	bad(s.Token != "" && (s.Username != "" || s.Password != ""), "both Token and Username are set", "set one of them")
	bad(s.Client != nil && s.TLS != nil, "both Client and TLS are set", "set TLS in the Client's transport")
	if s.Check.URL != "" {
		bad(badURL(s.Check.URL) != nil, "Check.URL can't be used", "set Check.URL to an address that begins with http:// or https://")
	}
	bad(s.Batching.Repeatable, "Batching.Repeatable is set", "set ID or Repeatable of the sink itself")
	bad(s.Batching.Shard != nil && s.To != nil && s.Form != Single, "Batching.Shard is set beside To, and a request has one URL only",
		"leave Batching.Shard out; records of one URL go together")
	bad(s.Batching.Send != nil, "Batching.Send is set", "leave Batching.Send out; the other fields say what is sent")
	return errors.Join(append(errs, s.batching(&sender[T]{}).Validate())...)
}

func badURL(raw string) error {
	u, err := url.Parse(raw)
	if err != nil {
		return err
	}
	return rest.CheckURL(u)
}
