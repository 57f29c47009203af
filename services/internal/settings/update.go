package settings

import (
	"context"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/audited"
)

// Update is Change as an audit event; see audited.Object.
func (t Table) Update(ctx context.Context, customerUUID string, edit func(*Settings) error, record func(context.Context, audit.Event) error) (before, after Settings, err error) {
	return audited.Object[Settings]{
		Table: t, Type: "Settings", Name: "Audit Log", Validate: Settings.Validate, Changes: Changes,
	}.Update(ctx, customerUUID, edit, record)
}
