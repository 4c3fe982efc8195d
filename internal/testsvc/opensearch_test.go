package testsvc_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/weirline/weirline/internal/testsvc"
)

func TestOpenSearchKeepsDocumentsOverKill(t *testing.T) {
	s := testsvc.NewOpenSearch(t, testsvc.OpenSearchOptions{Settings: map[string]string{"action.auto_create_index": "false"}})
	if err := s.Ask(t.Context(), http.MethodPut, "/none/_doc/1", `{"n": 1}`, nil); err == nil || !strings.Contains(err.Error(), "no such index") {
		t.Errorf("an index was made against the settings: %v", err)
	}
	err := errors.Join(s.Ask(t.Context(), http.MethodPut, "/kept", nil, nil), s.Ask(t.Context(), http.MethodPut, "/kept/_doc/1", map[string]int{"n": 7}, nil))
	if err != nil {
		t.Fatal(err)
	}
	url := s.URL
	s.Kill()
	s.Kill() // a second one does nothing
	if err := s.Ask(t.Context(), http.MethodGet, "/", nil, nil); err == nil {
		t.Fatal("a killed node answered")
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.URL != url {
		t.Errorf("the address changed from %s to %s", url, s.URL)
	}
	var got struct {
		Source struct{ N int } `json:"_source"`
	}
	if err := s.Ask(t.Context(), http.MethodGet, "/kept/_doc/1", nil, &got); err != nil || got.Source.N != 7 {
		t.Errorf("after the restart: %+v, %v", got, err)
	}
}

func TestOpenSearchSharedIsOneNode(t *testing.T) {
	s := testsvc.OpenSearch(t)
	if again := testsvc.OpenSearch(t); again != s {
		t.Fatal("second call gave another node")
	}
}

func TestStartOpenSearchShowsTheLog(t *testing.T) {
	_, err := testsvc.StartOpenSearch(t.Context(), t.TempDir(), testsvc.OpenSearchOptions{Settings: map[string]string{"no.such.setting": "1"}})
	if err == nil || !strings.Contains(err.Error(), "no.such.setting") {
		t.Fatalf("start with a bad setting: %v, want the server's own words", err)
	}
}
