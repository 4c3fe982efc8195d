package objects

import (
	"net/http"
	"testing"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

func TestPauses(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-1": 0, "soon": 0, "86400": time.Hour, "9223372036854775807": time.Hour,
	} {
		answer := &http.Response{Header: http.Header{"Retry-After": {value}}}
		err := &awshttp.ResponseError{ResponseError: &smithyhttp.ResponseError{Response: &smithyhttp.Response{Response: answer}}}
		if got := pauseOf(err); got != want {
			t.Errorf("Retry-After %q: %v, want %v", value, got, want)
		}
	}
}
