package qql

import "github.com/auditrail/auditrail/services/internal/field"

// Operators lists the operators that a query has for fields of a type.
func Operators(t field.Type) []string {
	if ranges(t) {
		return []string{":", "=", ">", ">=", "<", "<=", "is null", "is not null"}
	}
	return []string{":", "=", "is null", "is not null"}
}

// FilterOperators lists the operators that a Filter has for fields of a type.
func FilterOperators(t field.Type) []string {
	switch t {
	case field.Keyword, field.Text:
		return []string{"is", "is not", "contains", "starts with", "in"}
	case field.JSON:
		return []string{"contains"}
	case field.Instant:
		return []string{"is", "is not", "in", "between", "before", "after"}
	case field.Number, field.Address:
		return []string{"is", "is not", "in", "between"}
	default:
		return []string{"is", "is not", "in"}
	}
}
