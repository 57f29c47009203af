package query

import (
	"net/http"

	"github.com/segmentio/encoding/json"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/qql"
)

// validateMembers are the members of a request to validate.
var validateMembers = []string{"qql", "where"}

// verdict is the answer of POST /audit-log/admin/search/validate.
type verdict struct {
	Valid bool `json:"valid"`
	// Canonical is the query as the language writes it, qql and where in one;
	// empty for one that demands nothing.
	Canonical *string `json:"canonical,omitempty"`
	// Fields are those that the query compares; bare words compare all texts.
	Fields []string            `json:"fields,omitempty"`
	Errors []problem.Violation `json:"errors,omitempty"`
}

// validate answers POST /audit-log/admin/search/validate: whether a query
// holds. It asks nobody.
func (s *Service) validate(w http.ResponseWriter, r *http.Request, _ identity.Identity) error {
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	f, err := readForm(body, validateMembers)
	if err != nil {
		return err
	}
	if err := f.err(); err != nil { // unknown members
		return err
	}
	x := f.condition()
	v := verdict{Valid: len(f.violations) == 0, Errors: f.violations}
	if v.Valid {
		canonical := ""
		if x != nil {
			canonical = x.String()
		}
		v.Canonical = &canonical
		for _, f := range field.Events.Fields {
			if qql.Mentions(field.Events, x, f.Name) {
				v.Fields = append(v.Fields, f.Name)
			}
		}
	}
	answer, err := json.Append(nil, v, 0)
	if err != nil {
		return err
	}
	return writeJSON(w, answer)
}
