package engine

import (
	"cmp"
	"fmt"
	"sort"
	"strings"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/groups"
	"github.com/weirline/weirline/state"
)

// restorer gives the tasks of an attempt what a record holds for them.
type restorer struct {
	job *job
	rec *store.Record
}

// watermark is the event time an operator's task had reached: its own at the same parallelism, the lowest otherwise, so
// that what was late stays late and nothing becomes late that wasn't. A drain ended some inputs before others and so moved
// event time further than the splits had got: it counts for nothing.
func (r *restorer) watermark(op string, index int) int64 {
	st, ok := r.rec.Operators[op]
	if !ok || len(st.Tasks) == 0 || r.rec.End == store.Drained {
		return minTime
	}
	same := st.Parallelism == r.job.p.byName[op].tasks
	lowest := int64(maxTime)
	for _, t := range st.Tasks {
		if same && t.Index == index {
			return t.Watermark
		}
		lowest = min(lowest, t.Watermark)
	}
	return lowest
}

// ahead is the event time that each key group from first to last had reached, nil if none had reached more than restored. They
// differ after a rescale, if barriers had overtaken records: each task was cut at a time of its own.
func (r *restorer) ahead(op string, first, last int, restored int64) []int64 {
	st := r.rec.Operators[op]
	out := make([]int64, last-first+1)
	most := int64(minTime)
	for _, old := range st.Tasks {
		lo, hi := state.Range(old.Index, st.Parallelism, r.job.cfg.KeyGroups)
		for g := max(lo, first); g <= min(hi, last); g++ {
			out[g-first] = old.Watermark
			if old.Ahead != nil {
				out[g-first] = max(old.Watermark, old.Ahead[g-lo])
			}
			most = max(most, out[g-first])
		}
	}
	if most <= restored || r.rec.End == store.Drained { // see watermark
		return nil
	}
	return out
}

// keyed restores the key groups of a task from all old tasks that had some of them.
func (r *restorer) keyed(op string, index int, into interface{ Groups() (int, int) }, restore func(store.Reader) error) error {
	st := r.rec.Operators[op]
	first, last := into.Groups()
	for _, old := range st.Tasks {
		lo, hi := state.Range(old.Index, st.Parallelism, r.job.cfg.KeyGroups)
		if old.Keyed == nil || hi < first || lo > last {
			continue
		}
		if err := r.blob(*old.Keyed, restore); err != nil {
			return fault.At(err, fmt.Sprintf("operator %s task %d, reading %s", op, index, cmp.Or(old.Keyed.File, "the checkpoint's record")))
		}
	}
	return nil
}

func (r *restorer) blob(b store.Blob, restore func(store.Reader) error) error {
	rd, err := r.job.store.ReadBlob(b)
	if err != nil {
		return err
	}
	defer rd.Close()
	return restore(rd)
}

// lists gives a task what all old tasks had in their operator lists; each list takes of it what its kind says.
func (r *restorer) lists(op string, index, tasks int, into *state.Lists) {
	st := r.rec.Operators[op]
	parts := map[string][][]byte{}
	for at, old := range st.Tasks {
		for i, name := range old.Lists {
			if parts[name] == nil {
				parts[name] = make([][]byte, len(st.Tasks))
			}
			parts[name][at] = old.Items[i]
		}
	}
	for name, ps := range parts {
		into.Restore(name, ps, index, tasks)
	}
}

// writers deals the stored states of an operator's writers to its present tasks; of a keyed stream each task gets the groups it has.
func (r *restorer) writers(v *vertex, index int, keyed bool) (out [][]byte, _ error) {
	var owns func(group int) bool
	if keyed {
		owns = func(group int) bool { return state.Owner(group, v.tasks, r.job.cfg.KeyGroups) == index }
	}
	for _, old := range r.rec.Operators[v.name].Tasks {
		parts, err := groups.Deal(old.Writer, old.Index%v.tasks == index, owns)
		if err != nil {
			return nil, err
		}
		out = append(out, parts...)
	}
	return out, nil
}

// checkDropped refuses a record that has state of operators the pipeline no longer has, or unsent records of what isn't a plain sink
// any more.
func (j *job) checkDropped(rec *store.Record) error {
	var gone []string
	for name, op := range rec.Operators {
		v := j.p.byName[name]
		for _, t := range op.Tasks {
			if v == nil && (t.Keyed != nil || len(t.Lists)+len(t.Files) > 0) || (v == nil || v.outlet == nil || v.commit != nil) && len(t.Writer) > 0 {
				gone = append(gone, name)
				break
			}
		}
	}
	for name := range rec.Sources {
		if v := j.p.byName[name]; v == nil || v.source == nil {
			gone = append(gone, name)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	sort.Strings(gone)
	if j.cfg.AllowDropped {
		j.log.Warn("state is left behind", "operators", gone)
		return nil
	}
	return fault.New(fault.DroppedState, "epoch %d has state of %s", rec.Epoch, strings.Join(gone, ", "))
}

// blobName names a task's blob inside its epoch.
func blobName(op string, index int) string { return fmt.Sprintf("%s-%d", op, index) }
