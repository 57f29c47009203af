package audit

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// asciiRun returns the index of the first byte at or after i that is a quote,
// a backslash, a control character or not ASCII; len(p) when there is none.
// It looks at eight bytes a step: in a word of ASCII bytes the subtraction
// borrows into the high bit exactly where a byte is zero (or, for the control
// characters, below a space), and a borrow can only mislead above the first
// hit, which is the one that counts.
func asciiRun(p []byte, i int) int {
	const (
		lo = 0x0101010101010101
		hi = 0x8080808080808080
	)
	for ; i+8 <= len(p); i += 8 {
		w := binary.LittleEndian.Uint64(p[i:])
		quote := w ^ lo*'"'
		back := w ^ lo*'\\'
		if m := ((quote - lo) | (back - lo) | (w - lo*' ') | w) & hi; m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
	}
	for ; i < len(p); i++ {
		if c := p[i]; c == '"' || c == '\\' || c < ' ' || c >= utf8.RuneSelf {
			return i
		}
	}
	return i
}

// text is a JSON string that was found and checked, not yet unescaped.
type text struct {
	start, end int // of the bytes between the quotes
	decoded    int // length when unescaped
	escaped    bool
}

// scanText checks the JSON string whose first byte after the quote is at i.
// The string must be Unicode: valid UTF-8, and escapes of surrogates only in
// pairs.
func scanText(p []byte, i int) (text, *DecodeError) {
	j := asciiRun(p, i)
	if j < len(p) && p[j] == '"' {
		return text{start: i, end: j, decoded: j - i}, nil
	}
	return scanTextSlow(p, i, j)
}

func scanTextSlow(p []byte, i, j int) (text, *DecodeError) {
	t := text{start: i, decoded: j - i}
	for {
		if j >= len(p) {
			return t, fail(j, RuleJSON, "ends within a string")
		}
		switch c := p[j]; {
		case c == '"':
			t.end = j
			return t, nil
		case c == '\\':
			n, width, err := scanEscape(p, j)
			if err != nil {
				return t, err
			}
			t.escaped = true
			t.decoded += width
			j += n
		case c < ' ':
			return t, fail(j, RuleJSON, "has a raw control character in a string: escape it")
		default:
			r, n := utf8.DecodeRune(p[j:])
			if r == utf8.RuneError && n == 1 {
				return t, fail(j, RuleUTF8, "is not valid UTF-8")
			}
			t.decoded += n
			j += n
			continue // text that is not ASCII comes in runs
		}
		k := asciiRun(p, j)
		t.decoded += k - j
		j = k
	}
}

// scanEscape checks the escape at p[j], a backslash. It returns how many bytes
// it takes (twelve for a surrogate pair) and how many it stands for.
func scanEscape(p []byte, j int) (n, width int, err *DecodeError) {
	if j+1 >= len(p) {
		return 0, 0, fail(j, RuleJSON, "ends within a string")
	}
	switch p[j+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2, 1, nil
	case 'u':
		r, n := escapedRune(p[j:])
		switch {
		case n == 0:
			return 0, 0, fail(j, RuleJSON, `has a \u escape without four hexadecimal digits`)
		case r == utf8.RuneError && n < 0:
			return 0, 0, fail(j, RuleUTF8, `has an unpaired surrogate escape: write \ud83d\ude00 in pairs`)
		}
		return n, utf8.RuneLen(r), nil
	}
	return 0, 0, fail(j, RuleJSON, `has an unknown escape: JSON has \" \\ \/ \b \f \n \r \t \u`)
}

// escapedRune reads \uXXXX, or a pair of them, at the start of p. n is the
// number of bytes read, 0 for bad digits, -1 for an unpaired surrogate.
func escapedRune(p []byte) (r rune, n int) {
	r = hex4(p)
	switch {
	case r < 0:
		return utf8.RuneError, 0
	case !utf16.IsSurrogate(r):
		return r, 6
	}
	if len(p) >= 12 && p[6] == '\\' && p[7] == 'u' {
		if r = utf16.DecodeRune(r, hex4(p[6:])); r != utf8.RuneError {
			return r, 12
		}
	}
	return utf8.RuneError, -1
}

// hex4 reads the four digits of \uXXXX, -1 when they are not there.
func hex4(p []byte) rune {
	if len(p) < 6 {
		return -1
	}
	var r rune
	for _, c := range p[2:6] {
		d := hexDigit[c]
		if d < 0 {
			return -1
		}
		r = r<<4 | rune(d)
	}
	return r
}

// hexDigit holds the value of each hexadecimal digit and -1 for other bytes.
var hexDigit = func() (t [256]int8) {
	for i := range t {
		t[i] = -1
	}
	for i := range 10 {
		t['0'+i] = int8(i)
	}
	for i := range 6 {
		t['a'+i], t['A'+i] = int8(10+i), int8(10+i)
	}
	return t
}()

// value returns the string that t stands for. Without escapes it points into
// p; with escapes it is a fresh one.
func (t text) value(p []byte) string {
	if !t.escaped {
		return view(p[t.start:t.end])
	}
	out := make([]byte, 0, t.decoded)
	for i := t.start; i < t.end; {
		if p[i] != '\\' {
			j := i + 1
			for j < t.end && p[j] != '\\' {
				j++
			}
			out = append(out, p[i:j]...)
			i = j
			continue
		}
		switch c := p[i+1]; c {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, n := escapedRune(p[i:])
			out = utf8.AppendRune(out, r)
			i += n - 2
		default:
			out = append(out, c)
		}
		i += 2
	}
	return view(out)
}

// view makes a string of b without copying. The string lives as long as b is
// not written to.
func view(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b)) //nolint:gosec // zero-copy is the point; Decode says how long it holds
}

// space returns the index of the first byte at or after i that is no JSON
// white space.
func space(p []byte, i int) int {
	for i < len(p) && (p[i] == ' ' || p[i] == '\n' || p[i] == '\t' || p[i] == '\r') {
		i++
	}
	return i
}

func fail(offset int, rule, reason string) *DecodeError {
	return &DecodeError{Offset: offset, Rule: rule, Reason: reason}
}

// bytesView shows a string as bytes, to be read only.
func bytesView(s string) []byte {
	return unsafe.Slice(unsafe.StringData(s), len(s)) //nolint:gosec // only asciiRun gets it, which does not write
}
