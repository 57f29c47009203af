package reporter

import "bytes"

// counter counts the rows of what is written to it in pieces.
type counter interface {
	add(b []byte)
	// rows is how many have ended so far.
	rows() int64
	// whole says that the last of them has ended.
	whole() bool
}

// lines counts the lines of a text in which a line end ends a row.
type lines struct {
	n    int64
	last byte
}

func (l *lines) add(b []byte) {
	if len(b) > 0 {
		l.n += int64(bytes.Count(b, []byte{'\n'}))
		l.last = b[len(b)-1]
	}
}

func (l *lines) rows() int64 { return l.n }
func (l *lines) whole() bool { return l.last == '\n' || l.n == 0 && l.last == 0 }

// records counts those of a CSV text: a line end in quotes ends none. A doubled
// quote leaves and enters again.
type records struct {
	lines
	quoted bool
}

func (r *records) add(b []byte) {
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n')
		line := b
		if end >= 0 {
			line = b[:end+1]
		}
		if bytes.Count(line, []byte{'"'})&1 == 1 {
			r.quoted = !r.quoted
		}
		r.last = line[len(line)-1]
		if end >= 0 && !r.quoted {
			r.n++
		}
		b = b[len(line):]
	}
}

func (r *records) whole() bool { return !r.quoted && r.lines.whole() }
