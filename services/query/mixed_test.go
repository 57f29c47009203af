package query

import (
	"fmt"
	"testing"

	"github.com/google/uuid"

	"github.com/auditrail/auditrail/pkg/audit"
)

// TestPartsWithAndWithoutIndexes searches a month of which one part has its
// indexes, as merges build them, and another has none yet.
func TestPartsWithAndWithoutIndexes(t *testing.T) {
	db := newDatabase(t)
	some := func(n int) {
		events := make([]audit.Event, n)
		for i := range events {
			events[i] = audit.Event{
				ID: uuid.NewString(), CustomerUUID: manager.CustomerUUID, CreatedDate: 1750000000000 + int64(i), UserName: "Jack Portal", TargetName: "srv-13624",
				AuditComment: "failed login", ExternalChangeLink: "https://portal.example.com/c/0a1b2c3d",
			}
		}
		db.insert(t, t, events...)
	}
	some(10)
	db.exec(t, "OPTIMIZE TABLE audit_events FINAL")
	some(3)
	b := newBench(t, db.cfg, nil)
	for _, q := range []string{
		"jack", "por", "failed login", `"failed login"`, "srv-13624", "externalChangeLink: portal", "externalChangeLink: portal.example.com",
		`externalChangeLink: "0a1b2c3d"`, "externalChangeLink = https://portal.example.com/c/0a1b2c3d", "externalChangeLink: *example*", "auditComment: login",
	} {
		if a := b.searchAs(t, t, manager, fmt.Sprintf(`{"startDate":0,"qql":%q}`, q)); a.TotalCount != 13 || len(a.AuditRecords) != 10 {
			t.Errorf("%s: %d of 13", q, a.TotalCount)
		}
	}
}
