package chdb

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// ClickHouse error codes that the servers raise themselves.
const (
	CodeNoSuchColumn        int32 = 16
	CodeCannotReadAllData   int32 = 33
	CodeNotImplemented      int32 = 48
	CodeSyntaxError         int32 = 62
	CodeUnexpectedPacket    int32 = 101
	CodeUnknownSetting      int32 = 115
	CodeIncorrectData       int32 = 117
	CodeTooLarge            int32 = 131
	CodeReadonly            int32 = 164
	CodeTooManyQueries      int32 = 202
	CodeAuthenticationError int32 = 516
	CodeStdException        int32 = 1001
)

// Error is an exception of the engine.
type Error struct {
	// Code is ClickHouse's error code, such as 60. 1001 when the text names none.
	Code int32
	// Message is the text after "DB::Exception: ", with the code's name in
	// parentheses at its end where the engine wrote it.
	Message string
}

func (e *Error) Error() string { return fmt.Sprintf("code: %d: %s", e.Code, e.Message) }

// Errorf makes an Error whose text ends with the code's name, as the engine's do.
func Errorf(code int32, name, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...) + " (" + name + ")"}
}

var errorText = regexp.MustCompile(`(?s)^Code: (\d+)\. (?:DB::)?(?:Exception: )?(.*)$`)

// parseError reads the engine's text, "Code: 60. DB::Exception: ... (UNKNOWN_TABLE)".
func parseError(text string) *Error {
	text = strings.TrimSpace(text)
	if m := errorText.FindStringSubmatch(text); m != nil {
		if code, err := strconv.ParseInt(m[1], 10, 32); err == nil {
			return &Error{Code: int32(code), Message: m[2]}
		}
	}
	return &Error{Code: CodeStdException, Message: text}
}
