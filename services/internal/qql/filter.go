package qql

// Filter is one structured filter: a field, what to compare and with what.
type Filter struct {
	Field    string
	Operator string   // is, is not, contains, starts with, in, between, before, after
	Values   []string // one; two for between; one or more for in
}

// FromFilters makes the condition that all filters demand; nil when there are
// none. The errors are those of the filters, by their index.
func FromFilters(filters []Filter) (Expr, map[int]error) { panic("not built yet") }
