package main

// planted are the bugs that two-phase commit invites, in each place where somebody might write them.
var planted = []mutant{
	one("an epoch is committed before its pointer is durable", "engine/epoch.go",
		"e.closed = true\n", "e.closed = true\nfor a := range e.records {\na.commit(e)\n}\n"),

	one("leftovers are rolled back before what is kept is committed", "txn/committer.go",
		"if err := c.Commit(ctx, keep); err != nil || len(slots) == 0 {",
		"if err := c.r.Clear(ctx, slots); err != nil {\nreturn err\n}\nif err := c.Commit(ctx, keep); err != nil || len(slots) == 0 {"),
	one("leftover files are removed before what is kept is committed", "connector/files/txcommitter.go",
		"if err := c.commit(ctx, keep, true); err != nil {",
		"if len(keep) > 0 {\nif err := c.Recover(ctx, nil, slots); err != nil {\nreturn err\n}\n}\nif err := c.commit(ctx, keep, true); err != nil {"),

	one("a slot is used again before the commit of what is in it is definite", "engine/totx.go",
		"kept = append(kept, h)\n\t\t}", "kept = append(kept, h)\n\t\t} else {\nn.slots = append(n.slots, h.Slot)\n}"),

	one("a fate that nobody knows is taken for committed", "txn/committer.go",
		"if o == Done && err == nil {", "if o == Done && err == nil || o == Unknown {"),
	one("an id of another timeline is taken for evidence", "connector/postgres/txcommitter.go",
		`case status == "committed" && n.Timeline == now.Timeline:`, `case status == "committed":`),
	one("a transaction without a token is taken for committed", "connector/mysql/evidence.go",
		`return txn.Lost, fmt.Errorf("%s is neither prepared nor committed: its token isn't in %s", n.Name, n.Tokens)`, "return txn.Done, nil"),
	one("a token that isn't in the ledger is taken for applied", "connector/postgres/apply.go",
		"if len(done) > 0 {", "if len(done) >= 0 {"),
	one("a file that is nowhere is taken for committed", "connector/files/txcommitter.go",
		"err = sink.Permanent(c.lost(t, f))", "_ = c.lost"),
	one("a joined file that isn't visible proves that what was to be in it is", "connector/files/txcommitter.go",
		"done || err != nil {\n\t\t\treturn false, err", "done || err != nil || joined > \"\" {\n\t\t\treturn false, err"),
	one("joined files are visible before it is known what is in them", "connector/files/txjoin.go",
		"if err := p.ledgers[base].write(c.disk, base, temp); err != nil {", "if err := error(nil); err != nil && base < temp {"),
	one("what was joined is removed before the joined file is safe", "connector/files/txcommitter.go",
		"\tif err := c.disk.syncDirs(\"\", p.dirs); err != nil {\n\t\treturn err\n\t}\n", ""),
	one("a file is missing in the handle", "connector/files/txwriter.go",
		"Files: w.done}", "Files: w.done[:min(len(w.done), 2)]}"),
	one("a file is prepared before its bytes are safe", "connector/files/txwriter.go",
		"if err := w.disk.sync(f.f, f.name); err != nil {", "if err := f.f.Close(); err != nil {"),
	one("an object that is nowhere is taken for committed", "connector/objects/resource.go",
		"return r.nowhere(n, o)", "_ = r.nowhere\ncontinue"),
	one("a completion is believed without a look at the object", "connector/objects/resource.go",
		"outcome, err := r.seen(ctx, bucket, o)\n\tif outcome != txn.Absent {", "outcome, err := txn.Done, error(nil)\n\tif outcome != txn.Absent {"),
	one("an object of somebody else is taken for committed", "connector/objects/resource.go",
		"token != want || size != o.Size", "size < 0"),

	one("a writer's Close rolls back what it has prepared", "connector/postgres/txwriter.go",
		"\t\tx.s.close()\n\t\tx.s, x.slot",
		"for name := range x.held {\n_, _ = x.s.exec(context.Background(), \"rollback prepared '\"+txn.NameOf(name, x.token)+\"'\")\n}\n"+
			"\t\tx.s.close()\n\t\tx.s, x.slot"),
	one("a writer's Close rolls back what waits on its connections", "connector/mysql/txwriter.go",
		"\tx.closed = true\n", "x.closed = true\nfor _, p := range unpark(func(_ string, p parking) bool { return p.owner == ownerOf(x.o, x.t) }) {\n"+
			"_ = p.finish(context.Background(), \"rollback\")\n}\n"),
	one("a writer's Close gives up what it has staged", "connector/postgres/txwriter.go",
		"\t\tx.s.close()\n\t\tx.s, x.slot",
		"for name := range x.held {\n_, _ = x.s.exec(context.Background(), \"delete from weirline.ledger where applied is null and slot = '\"+name+\"'\")\n}\n"+
			"\t\tx.s.close()\n\t\tx.s, x.slot"),
	one("a writer's Close removes the file it has prepared", "connector/files/txwriter.go",
		"\tw.set.Drop()\n", "w.set.Drop()\nif w.open == \"\" {\n_ = w.disk.remove(hiddenName(w.slot.Name, w.token, preparedSuffix))\n}\n"),
	one("a writer's Close aborts the uploads it has prepared", "connector/objects/transaction.go",
		"\tif x.slot.Name != \"\" {\n\t\tx.abort()", "\tif x.t.Operator != \"\" {\n\t\tx.abort()"),

	one("a writer that was taken for dead begins its upload at the barrier", "connector/objects/transaction.go",
		"if f.index == 0 {\n\t\tif _, err := x.begun", "if f.index < 0 {\n\t\tif _, err := x.begun"),
}
