package qql

import "strings"

// Tokens splits a text into the tokens that words and phrases are compared
// with, in lower case: the longest runs of ASCII letters and digits and of
// characters beyond ASCII. Everything else separates them.
func Tokens(s string) []string {
	return strings.FieldsFunc(strings.ToLower(s), func(c rune) bool {
		return c < 0x80 && (c < '0' || c > '9') && (c < 'a' || c > 'z')
	})
}
