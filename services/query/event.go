package query

import (
	"context"
	"net/http"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// event answers GET /audit-log/admin/events/{id}: one record, in full.
func (s *Service) event(w http.ResponseWriter, r *http.Request, id identity.Identity) error {
	wanted, err := pathUUID(r, "id", "an event")
	if err != nil {
		return err
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
			return found{none: errNoEvent}, err
		}
		return found{body: answer, events: 1}, err
	})
}
