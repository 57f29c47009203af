package qql

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Fold returns s in the form in which upper and lower case are alike. A
// character folds the same whatever stands around it. ClickHouse makes the same
// of a text, for every character, as
//
//	replaceAll(lowerUTF8(toValidUTF8(s)), 'ς', 'σ')
func Fold(s string) string {
	for i := range len(s) {
		if c := s[i]; c >= utf8.RuneSelf || 'A' <= c && c <= 'Z' {
			return string(appendFold(make([]byte, 0, len(s)+8), s))
		}
	}
	return s
}

// Tokens splits s into its tokens, folded: maximal runs of ASCII letters, ASCII
// digits and characters beyond ASCII.
func Tokens(s string) []string {
	return strings.FieldsFunc(Fold(s), func(r rune) bool { return r < utf8.RuneSelf && !inToken(byte(r)) })
}

// inToken says whether a byte of folded text belongs to a token.
func inToken(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c >= utf8.RuneSelf
}

// appendFold appends s, folded.
func appendFold(b []byte, s string) []byte {
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			b = append(b, c)
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			return appendFold(b, toValid(s[i:])) // valid from here on
		case r == 'İ': // the one letter that becomes two characters
			b = append(b, "i\u0307"...)
		default:
			b = utf8.AppendRune(b, lower.ToLower(r))
		}
		i += n
	}
	return b
}

// lower is lower case where the engine's goes beyond Go's: the sigma that Σ may
// become at the end of a word is one like any, and the letters that are newer
// than Go's tables (Unicode 15) have lower case too.
var lower = unicode.SpecialCase{
	{Lo: 'ς', Hi: 'ς', Delta: [unicode.MaxCase]rune{unicode.LowerCase: 'σ' - 'ς'}},
	{Lo: 0x1c89, Hi: 0x1c89, Delta: [unicode.MaxCase]rune{unicode.LowerCase: 1}},
	{Lo: 0xa7cb, Hi: 0xa7cb, Delta: [unicode.MaxCase]rune{unicode.LowerCase: 0x264 - 0xa7cb}},
	{Lo: 0xa7cc, Hi: 0xa7cc, Delta: [unicode.MaxCase]rune{unicode.LowerCase: 1}},
	{Lo: 0xa7ce, Hi: 0xa7ce, Delta: [unicode.MaxCase]rune{unicode.LowerCase: 1}},
	{Lo: 0xa7d2, Hi: 0xa7d2, Delta: [unicode.MaxCase]rune{unicode.LowerCase: 1}},
	{Lo: 0xa7d4, Hi: 0xa7d4, Delta: [unicode.MaxCase]rune{unicode.LowerCase: 1}},
	{Lo: 0xa7da, Hi: 0xa7da, Delta: [unicode.MaxCase]rune{unicode.LowerCase: 1}},
	{Lo: 0xa7dc, Hi: 0xa7dc, Delta: [unicode.MaxCase]rune{unicode.LowerCase: 0x19b - 0xa7dc}},
	{Lo: 0x10d50, Hi: 0x10d65, Delta: [unicode.MaxCase]rune{unicode.LowerCase: 0x20}},
	{Lo: 0x16ea0, Hi: 0x16eb8, Delta: [unicode.MaxCase]rune{unicode.LowerCase: 0x1b}},
}

// toValid is the engine's toValidUTF8: runs of bytes that are not UTF-8 become
// one U+FFFD, and so does all from the first byte of a character on that would
// go beyond the end of s. Ingest stores none of either.
func toValid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 && i+announced(s[i]) > len(s) {
			return strings.ToValidUTF8(s[:i]+"\xff", "\uFFFD")
		}
		i += n
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// announced is how many bytes a character has, by its first byte.
func announced(c byte) int {
	switch {
	case c >= 0xf8 || c < 0xc0:
		return 1
	case c >= 0xf0:
		return 4
	case c >= 0xe0:
		return 3
	}
	return 2
}
