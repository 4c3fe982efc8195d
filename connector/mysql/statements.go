package mysql

import "strings"

// statements are what writes the batch, each as large as the server takes.
func (l *link) statements() []string {
	if len(l.keys) == 0 {
		var parts []part
		for i := range l.rows.len() {
			parts = append(parts, part{text: l.rows.span(i, i+1)})
		}
		return l.joined(nil, parts)
	}
	l.reduce()
	var parts, removed []part
	for _, o := range l.ops {
		p := part{gone: o.row < 0}
		if p.gone {
			p.text = l.where[o.from:o.to]
		} else {
			p.text = l.rows.span(o.row, o.row+1)
		}
		if l.exact && p.gone { // they are of other rows, so the order doesn't matter
			removed = append(removed, p)
		} else {
			parts = append(parts, p)
		}
	}
	return l.joined(l.joined(nil, removed), parts)
}

// part is a row, or the condition of one to remove.
type part struct {
	gone bool
	text []byte
}

// joined makes statements of parts that follow one another and do the same.
func (l *link) joined(out []string, parts []part) []string {
	most := min(l.room, statementBytes)
	for len(parts) > 0 {
		n, size := 1, len(parts[0].text)
		for n < len(parts) && parts[n].gone == parts[0].gone && size+len(parts[n].text)+len(" or ") <= most {
			size += len(parts[n].text) + len(" or ")
			n++
		}
		out = append(out, l.statement(parts[:n], size))
		parts = parts[n:]
	}
	return out
}

func (l *link) statement(parts []part, size int) string {
	head, joint, tail := l.head, ",", l.tail
	if parts[0].gone {
		head, joint, tail = "delete from "+l.o.table.String()+" where ", " or ", ""
	}
	var sql strings.Builder
	sql.Grow(len(head) + size + len(tail))
	sql.WriteString(head)
	for i, p := range parts {
		if i > 0 {
			sql.WriteString(joint)
		}
		sql.Write(p.text)
	}
	sql.WriteString(tail)
	return sql.String()
}
