//go:build !noengine && (linux || darwin)

package web

import (
	"bytes"
	"strings"
)

// The engine's stream is one complete output for each piece that is fetched. How
// those become one output depends on the format.
type joining uint8

const (
	joinFile   joining = iota // they do not: the result goes through a file
	joinPlain                 // one after the other
	joinHeader                // one after the other, less the header of all but the first
)

type format struct {
	join        joining
	headerLines int  // of joinHeader
	csv         bool // header lines may hold line ends in quotes
	contentType string
}

const (
	typeTSV    = "text/tab-separated-values; charset=UTF-8"
	typeCSV    = "text/csv; charset=UTF-8; header=absent"
	typeHeader = "text/csv; charset=UTF-8; header=present"
	typeLines  = "application/x-ndjson; charset=UTF-8"
	typeBinary = "application/octet-stream"
	typeText   = "text/plain; charset=UTF-8"
	typeJSON   = "application/json; charset=UTF-8"
)

// formats are those that are streamed, and the content types of some others.
// Names are lower case: ClickHouse ignores it. A format that is not here is
// written to a file, which is right for every format.
var formats = func() map[string]format {
	m := map[string]format{
		"json": {contentType: typeJSON}, "jsoncompact": {contentType: typeJSON}, "jsonstrings": {contentType: typeJSON},
		"xml": {contentType: "application/xml; charset=UTF-8"}, "html": {contentType: "text/html; charset=UTF-8"},
		"vertical": {contentType: typeText}, "markdown": {contentType: "text/markdown; charset=UTF-8"}, "values": {contentType: typeText},
		"rowbinary": {join: joinPlain, contentType: typeBinary}, "native": {join: joinPlain, contentType: typeBinary},
		"msgpack": {join: joinPlain, contentType: typeBinary}, "rawblob": {join: joinPlain, contentType: typeBinary},
		"lineasstring": {join: joinPlain, contentType: typeText}, "tskv": {join: joinPlain, contentType: typeTSV},
		"null": {join: joinPlain, contentType: typeText},
	}
	add := func(contentType, headed string, csv bool, names ...string) {
		for _, name := range names {
			m[name] = format{join: joinPlain, contentType: contentType}
			m[name+"withnames"] = format{join: joinHeader, headerLines: 1, csv: csv, contentType: headed}
			m[name+"withnamesandtypes"] = format{join: joinHeader, headerLines: 2, csv: csv, contentType: headed}
		}
	}
	add(typeTSV, typeTSV, false, "tabseparated", "tsv", "tabseparatedraw", "tsvraw")
	add(typeCSV, typeHeader, true, "csv")
	add(typeLines, typeLines, false, "jsoncompacteachrow", "jsoncompactstringseachrow")
	for _, name := range []string{"jsoneachrow", "jsonlines", "ndjson", "jsonstringseachrow"} {
		m[name] = format{join: joinPlain, contentType: typeLines}
	}
	return m
}()

func formatOf(name string) format {
	f, ok := formats[strings.ToLower(name)]
	if !ok {
		f.contentType = typeBinary
	}
	return f
}

// header is the length of the header that b begins with.
func (f format) header(b []byte) int {
	at := 0
	for range f.headerLines {
		at += f.line(b[at:])
	}
	return at
}

// line is the length of the first line of b, its end included.
func (f format) line(b []byte) int {
	if !f.csv {
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			return i + 1
		}
		return len(b)
	}
	quoted := false
	for i, c := range b {
		switch {
		case c == '"':
			quoted = !quoted // a doubled quote does it twice
		case c == '\n' && !quoted:
			return i + 1
		}
	}
	return len(b)
}
