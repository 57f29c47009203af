package deadletter

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// stamp writes epoch milliseconds for people; 0 is "-".
func stamp(ms int64) string {
	if ms == 0 {
		return "-"
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
}

// plain makes text of a record fit for a terminal, on one line: what could
// move the cursor or hide something is escaped.
func plain(s string) string {
	if printable(s, "") {
		return s
	}
	return strconv.QuoteToGraphic(s)
}

// printable says that s is text of graphic characters and those of also.
func printable(s, also string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) && !strings.ContainsRune(also, r) })
}

// short cuts s to n characters.
func short(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

// readable shows a value to people: JSON indented, other text as it is, and
// everything else as a dump of its bytes.
func readable(value []byte) string {
	var b bytes.Buffer
	if json.Indent(&b, value, "", "  ") == nil && printable(b.String(), "\n\t") {
		return b.String() + "\n"
	}
	if printable(string(value), "\n\t") {
		return string(value) + "\n"
	}
	return hex.Dump(value)
}
