package qql

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Fold returns s in the form in which upper and lower case are alike. Runs of
// bytes that are not UTF-8 become one U+FFFD. A character folds the same
// whatever stands around it. ClickHouse says the same as
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

func appendFold(b []byte, s string) []byte {
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			b = append(b, c)
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		i += n
		if r == utf8.RuneError && n == 1 {
			for n == 1 && r == utf8.RuneError && i < len(s) {
				if r, n = utf8.DecodeRuneInString(s[i:]); n == 1 && r == utf8.RuneError {
					i++
				}
			}
			b = utf8.AppendRune(b, utf8.RuneError)
			continue
		}
		switch r {
		case 'İ': // the one letter that becomes two characters
			b = append(b, "i\u0307"...)
		case 'ς': // what lowerUTF8 makes of Σ depends on where it stands
			b = utf8.AppendRune(b, 'σ')
		default:
			b = utf8.AppendRune(b, unicode.ToLower(r))
		}
	}
	return b
}

// Tokens splits s into its tokens, folded: maximal runs of ASCII letters, ASCII
// digits and characters beyond ASCII.
func Tokens(s string) []string {
	return strings.FieldsFunc(Fold(s), func(r rune) bool { return r < utf8.RuneSelf && !inToken(byte(r)) })
}

// inToken says whether a byte of folded UTF-8 belongs to a token.
func inToken(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c >= utf8.RuneSelf
}
