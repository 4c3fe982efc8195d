package httpsink

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/rest"
)

// preflightLimit is how long Preflight takes at most.
const preflightLimit = 10 * time.Second

// Check is what is asked at start. The zero value asks for the head of the sink's URL, where any answer but a refusal of the
// credentials (401, 407) is fine: it shows that name, port, TLS and proxy are right. Without URL nothing is asked.
type Check struct {
	Method string // unset: GET
	URL    string // is asked instead, with the sink's Header and credentials, and must answer 2xx. Unset: see above
	Off    bool   // ask nothing
}

// Preflight asks what Check says.
func (s Sink[T]) Preflight(ctx context.Context) error {
	if err := s.Validate(); err != nil {
		return err
	}
	req := rest.Request{Method: cmp.Or(s.Check.Method, http.MethodGet), URL: s.Check.URL}
	field := "Check.URL"
	if req.URL == "" {
		req, field = rest.Request{Method: http.MethodHead, URL: s.URL}, "URL"
	}
	if s.Check.Off || req.URL == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, preflightLimit)
	defer cancel()
	client := s.client()
	defer client.CloseIdle()
	a, err := client.Do(ctx, req, keptOfAnswer)
	switch {
	case err != nil:
		return fault.Wrap(fault.Unreachable, err, "reach the service at %s", field).
			WithFix("check %s and TLS, and that the service is up", field)
	case a.Status == http.StatusUnauthorized || a.Status == http.StatusProxyAuthRequired:
		return failed(req, a)
	case s.Check.URL == "" || a.Status/100 == 2:
		return nil
	case a.Status == http.StatusForbidden:
		return failed(req, a)
	}
	return fault.Wrap(fault.Preflight, a.Failure(), "%s %s", req.Method, req.URL).
		WithFix("check Check.URL, and that the service is ready")
}
