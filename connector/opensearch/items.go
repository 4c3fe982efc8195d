package opensearch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/rest"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// bulkAnswer is the answer to _bulk.
type bulkAnswer struct {
	Errors *bool
	Items  []map[string]item // each with its action's name as the only key
}

// item is the result of one action.
type item struct {
	Status int
	Error  cause
}

type cause struct {
	Type, Reason string
	By           *cause `json:"caused_by"`
}

func (c cause) String() string {
	text := c.Type + ": " + c.Reason
	if c.By != nil && c.By.Reason != "" && !strings.Contains(c.Reason, c.By.Reason) {
		text += ": " + c.By.Reason
	}
	return text
}

// items puts the errors of single records into errs.
func (s *sender[T]) items(a rest.Answer, sent []sentAction, errs map[int]error) error {
	if bytes.HasPrefix(a.Body, []byte(`{"errors":false,`)) && bytes.Count(a.Body, []byte(`"status":`)) == len(sent) {
		return nil // as nearly always
	}
	var all bulkAnswer
	if err := json.Unmarshal(a.Body, &all); err != nil {
		return fmt.Errorf("read answer of _bulk (%s): %w", a.Text(), err)
	}
	if all.Errors == nil || len(all.Items) != len(sent) {
		return fmt.Errorf("answer of _bulk has %d results, want %d (%s)", len(all.Items), len(sent), a.Text())
	}
	again, rejected, busy := 0, 0, 0
	for k, byName := range all.Items {
		if len(byName) != 1 {
			return fmt.Errorf("answer of _bulk has no result for action %d (%s)", k, a.Text())
		}
		for _, it := range byName {
			err := s.result(sent[k].Action, it)
			if err == nil {
				continue
			}
			errs[sent[k].i] = err
			if fault.CodeOf(err) == "" {
				again++
			} else {
				rejected++
			}
			if it.Status == http.StatusTooManyRequests && it.Error.Type != blocked {
				busy++
			}
		}
	}
	s.count("items_again", int64(again))
	s.count("items_rejected", int64(rejected))
	if busy == len(sent) {
		return sink.RetryAfter(errs[sent[0].i], 0)
	}
	return nil
}

// blocked is the type of errors of an index that takes no writes now: read-only, or short of disk space.
const blocked = "cluster_block_exception"

// result is what an item means for its record. Errors without a code mean again.
func (s *sender[T]) result(a Action, it item) error {
	if it.Status/100 == 2 {
		return nil
	}
	switch it.Error.Type {
	case blocked, "index_closed_exception",
		"validation_exception": // the cluster has as many shards as it may have
		return again(it)
	case "security_exception":
		return sink.Permanent(s.denied(errors.New(it.Error.String())))
	case "index_not_found_exception":
		if a.Index == "" || a.Index == s.Index {
			return sink.Permanent(fault.Wrap(fault.SinkFailed, errors.New(it.Error.String()), "index %q is gone", s.Index).
				WithFix("make the index again, or allow the server to make it (action.auto_create_index)"))
		}
	}
	switch {
	case s.Pipeline != "" && strings.HasPrefix(it.Error.Reason, "pipeline with id ["):
		return sink.Permanent(fault.Wrap(fault.SinkFailed, errors.New(it.Error.String()), "ingest pipeline %q is gone", s.Pipeline).
			WithFix("make the pipeline again"))
	case it.Status == http.StatusConflict:
		if a.Op == Create || a.Version > 0 {
			return nil
		}
		return again(it)
	case it.Status == http.StatusNotFound && a.Op == Delete && it.Error.Type == "":
		return nil
	case it.Status == http.StatusTooManyRequests || it.Status >= 500:
		return again(it)
	}
	return async.Refuse(fault.New(fault.SinkRejected, "%s answered %d %s", a.Op, it.Status, it.Error).
		WithFix("mend the record or the index's mapping, or choose what becomes of rejected records"))
}

func again(it item) error { return fmt.Errorf("server answered %d %s", it.Status, it.Error) }
