package hybrid

import (
	"encoding/json"

	"github.com/weirline/weirline/internal/fault"
)

// seam says how far a chain has got: all of what must be stored, and the rules by which it changes. It is pure: a value,
// no I/O, no lock.
//
//	stage k --(all its splits finished, start derived)--> stage k+1 --> ... --> last stage --> no further stage
//
// The step to k+1 and its start are one value, so a checkpoint has both or neither.
type seam struct {
	Stage int             `json:"stage"`
	Start json.RawMessage `json:"start,omitempty"` // of the present stage, if it was derived
	Inner []byte          `json:"inner,omitempty"` // state of the present stage's enumerator, if it has one
	Done  bool            `json:"done,omitempty"`  // the present stage's Discover reported everything
}

// isLast says whether there is no stage after this one.
func (s seam) isLast(stages int) bool { return s.Stage >= stages-1 }

// advance is the seam after the switch to the next stage. What the enumerator of the stage before had stored is gone.
func (s seam) advance(start json.RawMessage) seam { return seam{Stage: s.Stage + 1, Start: start} }

// mine are the splits of the present stage.
func (s seam) mine(splits []Split) (out []Split) {
	for _, sp := range splits {
		if sp.Stage == s.Stage {
			out = append(out, sp)
		}
	}
	return out
}

// encode is the stored form.
func (s seam) encode() ([]byte, error) { return json.Marshal(s) }

// decodeSeam reads the stored form for a chain of so many stages; derived says which of them need a start.
func decodeSeam(b []byte, stages int, derived func(stage int) bool) (seam, error) {
	var s seam
	if err := json.Unmarshal(b, &s); err != nil {
		return seam{}, fault.Wrap(fault.BadPosition, err, "restore a hybrid source")
	}
	if s.Stage < 0 || s.Stage >= stages {
		return seam{}, fault.New(fault.BadPosition, "restore a hybrid source: it had got to stage %d, but there are only %d now", s.Stage, stages).
			WithFix("keep the stages in their order; new ones can be added at the end")
	}
	if derived(s.Stage) != (len(s.Start) > 0) {
		return seam{}, fault.New(fault.BadPosition, "restore a hybrid source: stage %d was made with ThenFrom and isn't now, or the reverse", s.Stage).
			WithFix("keep the stages as they were; new ones can be added at the end")
	}
	return s, nil
}
