package main

// mutant is one planted bug. Each edit's old text must be in its file exactly once.
type mutant struct {
	name  string
	edits []edit
}

type edit struct{ file, old, new string }

func one(name, file, old, new string) mutant { return mutant{name, []edit{{file, old, new}}} }

// mutants are bugs of the engine. They are close to what somebody might write.
var mutants = []mutant{
	{"a split is assigned after the barrier that its row was taken before", []edit{
		{
			"engine/coord.go", "\t\tt.in.tell(func(t *task) error {\n\t\t\tfor _, a := range mine {",
			"\t\ttime.AfterFunc(2*time.Millisecond, func() { t.in.tell(func(t *task) error {\n\t\t\tfor _, a := range mine {",
		},
		{"engine/coord.go", "return nil\n\t\t})\n\t}\n}\n\n// settle", "return nil\n\t\t}) })\n\t}\n}\n\n// settle"},
	}},
	one("the pointer is written before the record's name is synced", "engine/store/publish.go",
		"return d.fs.SyncDir(d.path(epochsName))", "return nil"),
	one("a record is renamed before it is synced", "internal/durable/fs.go",
		"err = f.Sync()", "err = nil"),
	one("a restored split that had been started is dropped", "internal/splits/splits.go",
		"for _, r := range s.Splits {\n\t\tsplit, err :=",
		"for _, r := range s.Splits {\n\t\tif r.Started && !r.Finished {\ncontinue\n}\n\t\tsplit, err :="),
	one("the watermark of a finished split is kept", "engine/sourcerun.go",
		"c.remove(run.clocks[i])", "_, _ = c.remove, i"),
	one("unstarted splits don't hold the watermark", "engine/coord.go",
		"(n.Unstarted > 0 || !n.Last)", "!n.Last"),
	one("handles of a declined epoch are forgotten", "engine/totx.go",
		"return append([]sink.Handle(nil), n.sent...)", "out := n.sent\nn.sent = nil\nreturn out"),
	one("a commit is recorded before it is done", "engine/commit.go",
		"for _, op := range l.order {\n\t\tvar hs []sink.Handle",
		"if err := l.att.job.store.Committed(j.handles); err != nil {\nreturn err\n}\nfor _, op := range l.order {\n\t\tvar hs []sink.Handle"),
	one("a slot is free before its commit is recorded", "engine/totx.go",
		"kept = append(kept, h)\n\t\t}", "kept = append(kept, h)\n\t\t} else {\nn.slots = append(n.slots, h.Slot)\n}"),
	one("leftovers are cleared before the restored epoch is committed", "engine/commit.go",
		"if err := c.Recover(ctx, keep, slots); err != nil {",
		"_ = c.Recover(ctx, nil, slots)\nif err := c.Recover(ctx, keep, slots); err != nil {"),
	one("slots of a higher parallelism are not cleared", "engine/commit.go",
		"max(a.job.store.Granted()[v.name], need)", "need"),
	one("a position moves before its records are processed", "engine/fetcher.go",
		"fatal := x.err != nil && x.err != io.EOF",
		"next := x.next\nf.ch.to.tell(func(t *task) error {\nif s, ok := t.src.(*sourceRun[T, S]); ok {\n"+
			"if r, _ := s.find(next); r != nil {\nr.at = next\n}\n}\nreturn nil\n})\nfatal := x.err != nil && x.err != io.EOF"),
	one("barriers are not aligned", "engine/barrier.go",
		"\t\tt.in.block(from)\n", ""),
	one("a hybrid's next stage begins before its epoch is complete", "engine/coord.go",
		"if ev.d.More {\n\t\t\tc.requested = true",
		"if ev.d.More {\n\t\t\tc.requested = true\ns.switching, s.derived = false, false\ns.resume <- struct{}{}"),
	one("timers are missing in a capture", "state/scope.go",
		"snap.parts = append(snap.parts, st.take())",
		"part := st.take()\nif _, is := st.(*Timers[K]); !is {\nsnap.parts = append(snap.parts, part)\n}"),
	one("panes are missing in a capture", "state/scope.go",
		"snap.parts = append(snap.parts, st.take())",
		"part := st.take()\nif _, is := st.(interface{ Starts() []int64 }); !is {\nsnap.parts = append(snap.parts, part)\n}"),
	one("epoch numbers are used again after a restart", "engine/store/load.go",
		"d.next = max(f.numbers.Below, f.highest+1)", "d.next = d.cur.Epoch + 1"),
	one("a late ack of an older epoch counts", "engine/epoch.go",
		"if i < 0 || !c.pending[i].waiting[a.t] {", "i = max(i, 0)\nif len(c.pending) == 0 || !c.pending[i].waiting[a.t] {"),
	{"channels blocked for an epoch that was given up stay blocked", []edit{
		{"engine/barrier.go", "t.in.unblockAll() // an older epoch was given up", ""},
		{"engine/barrier.go", "if t.aligning == epoch {\n\t\tt.in.unblockAll()", "if t.aligning == epoch {"},
	}},
	one("an unknown outcome counts as a failure, and the record is removed", "engine/store/publish.go",
		"+durable.TempSuffix, d.path(pointerName)); err != nil {\n\t\treturn false, err",
		"+durable.TempSuffix, d.path(pointerName)); err != nil {\n\t\treturn true, err"),
	one("what a background writer hasn't sent is not in the snapshot", "engine/to.go",
		"return n.stateful.Snapshot()", "return nil, nil"),
	one("keyed state goes only to the task of the same number", "engine/restore.go",
		"if old.Keyed == nil || hi < first || lo > last {", "if old.Keyed == nil || hi < first || lo > last || old.Index != index {"),
	one("event time of a drained input counts on resume", "engine/restore.go",
		"len(st.Tasks) == 0 || r.rec.End == store.Drained", "len(st.Tasks) == 0"),
	one("event time that key groups reached in a drain counts on resume", "engine/restore.go",
		"most <= restored || r.rec.End == store.Drained", "most <= restored"),
	{"windows forget how far they had got", []edit{
		{"engine/window.go", "n.mark = n.keyed.restored\n", "n.mark = minTime\n"},
		{"engine/window.go", "ahead(v.name, n.first, n.last, n.mark)", "ahead(v.name, n.first, n.last, n.keyed.restored)"},
	}},
	one("the next attempt begins before it is known whether the record being published is the newest", "engine/region.go",
		"if r.waiting && len(c.pending) == 0 {", "if r.waiting {"),
	one("records that barriers have overtaken aren't put back", "engine/attempt.go",
		"if err := a.replay(rec); err != nil {", "if err := error(nil); err != nil {"),
	one("event time of each key group is forgotten after a rescale", "engine/restore.go",
		"if most <= restored || r.rec.End == store.Drained {", "if most > restored || r.rec.End == store.Drained {"),
	one("sliding windows don't merge the key groups that are ahead", "engine/window.go",
		"emit = false // it was, before the restore", "emit, f.emit = false, false // it was, before the restore"),
	one("a complete epoch takes the transactions of a newer one with it", "engine/totx.go",
		"if h.Epoch > epoch {", "if h.Epoch > epoch+1<<32 {"),
}
