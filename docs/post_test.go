package docs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
	"github.com/weirline/weirline/sink/sinktest"
)

// Event is what is sent.
type Event struct {
	ID   int
	User string
}

// Post sends batches of events to a web service, each user's in order.
func Post(client *http.Client, url string) async.Sink[Event] {
	send := func(ctx context.Context, batch []Event) error {
		body, err := json.Marshal(batch)
		if err != nil {
			return sink.Permanent(fmt.Errorf("encode events: %w", err))
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return sink.Permanent(fmt.Errorf("post events: %w", err))
		}
		resp, err := client.Do(req)
		if err != nil {
			return fmt.Errorf("post events: %w", err) // sent again after a delay
		}
		defer resp.Body.Close()
		switch {
		case resp.StatusCode == http.StatusTooManyRequests:
			return sink.RetryAfter(fmt.Errorf("post events: %s", resp.Status), time.Second)
		case resp.StatusCode/100 != 2:
			return fmt.Errorf("post events: %s", resp.Status)
		}
		return nil
	}
	return async.Sink[Event]{Send: send, Key: func(e Event) string { return e.User }}
}

func TestPost(t *testing.T) {
	var mu sync.Mutex
	var got []Event
	calls := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if calls++; calls%5 == 0 {
			w.WriteHeader(http.StatusServiceUnavailable) // sent again
			return
		}
		var batch []Event
		if err := json.NewDecoder(r.Body).Decode(&batch); err != nil {
			t.Error(err)
		}
		got = append(got, batch...)
	}))
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	sinktest.Run(t, sinktest.Case[Event]{
		Sink: Post(client, server.URL),
		Make: func(i int) Event { return Event{ID: i, User: strconv.Itoa(i % 3)} },
		Read: func() ([]Event, error) {
			mu.Lock()
			defer mu.Unlock()
			return append([]Event(nil), got...), nil
		},
	})
}
