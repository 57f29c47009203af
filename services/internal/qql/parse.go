package qql

// Error says what is wrong with a query, and where.
type Error struct {
	Line, Column int    // from 1, in characters
	Message      string // what is wrong, and what was expected there
	Example      string // a query, or a part of one, that would do; may be empty
}

func (e *Error) Error() string { return e.Message }

// Parse reads a query of at most MaxLength characters. Blank text is nil, which
// holds for every event. The error is an *Error.
func Parse(text string) (Expr, error) { panic("not built yet") }
