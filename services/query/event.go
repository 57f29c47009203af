package query

import (
	"context"
	"net/http"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// event answers GET /audit-log/admin/events/{id}: one record, in full.
func (s *Service) event(w http.ResponseWriter, r *http.Request, id identity.Identity) error {
	text := r.PathValue("id")
	wanted, err := uuid.Parse(text)
	if err != nil || len(text) != 36 {
		return problem.Invalid(problem.Violation{
			Field: "id", Value: problem.Shorten(text), Limit: "a UUID",
			Message: "must be the id of an event, such as eaa0a5b2-1e46-4f43-9dfe-578a88ae01c9",
		})
	}
	return s.answer(w, r, id, "event "+wanted.String(), func(ctx context.Context) (found, error) {
		var answer []byte
		rec := newRecord(field.Events)
		err := s.engine.query(ctx, "event", sqlgen.Event(visibility.For(id), wanted), func(r driver.Rows) error {
			if err := rec.scan(r); err != nil {
				return err
			}
			answer = rec.appendJSON(nil, nil)
			return nil
		})
		if answer == nil {
			return found{}, err
		}
		return found{answer, 1}, err
	})
}
