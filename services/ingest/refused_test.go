package ingest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// constrain has the engine refuse rows that a condition does not hold for.
func (p *pipeline) constrain(condition string) {
	p.t.Helper()
	if err := p.conn.Exec(p.t.Context(), "ALTER TABLE audit_events ADD CONSTRAINT test CHECK "+condition); err != nil {
		p.t.Fatal(err)
	}
}

func TestARecordThatTheEngineRefusesDoesNotStopItsLane(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	p.cfg.Limits.FlushAge = 500 * time.Millisecond // one batch
	p.constrain("audit_comment != 'poison'")
	p.start()
	poison := func(n int) []byte { return event(n, func(e *audit.Event) { e.AuditComment = "poison" }) }
	var values [][]byte
	for i := range 50 {
		if i == 0 || i == 20 || i == 21 {
			values = append(values, poison(i))
		}
		values = append(values, event(100+i))
	}
	p.produce(pm, 0, values...)
	p.produce(pm, 1, event(98))
	p.stored(51)
	p.produce(pm, 1, poison(99)) // alone in its batch
	p.committed()
	dead := p.deadLetters(4)
	var offsets []string
	for offset, r := range dead {
		offsets = append(offsets, offset)
		if !bytes.Contains(r.Value, []byte("poison")) || headerOf(r, topic.HeaderReason) != topic.ReasonRefused {
			t.Errorf("offset %s: got %q with headers %v", offset, r.Value, r.Headers)
		}
		if said := headerOf(r, topic.HeaderProblem); !strings.Contains(said, "469") || strings.Contains(said, "poison") {
			t.Errorf("the problem is %q, want the engine's code and nothing of the record", said)
		}
	}
	if slices.Sort(offsets); fmt.Sprint(offsets) != "[0 1 21 23]" {
		t.Errorf("dead letters of offsets %v", offsets)
	}
	var probes uint64
	if err := p.conn.QueryRow(t.Context(), "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name LIKE '%probe%'").Scan(&probes); err != nil || probes != 0 {
		t.Errorf("%d probe tables are left, %v", probes, err)
	}
}

func TestAnEngineThatRefusesEverythingMakesNoDeadLetters(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.ClickHouse(t).Config(), "PM")
	p.constrain("kafka_offset < 0 AND customer_uuid != 'probe'")
	p.start()
	p.produce(pm, 0, event(1), event(2))
	p.until("the engine to be asked often enough for a search", func() (bool, string) {
		n := p.gauge("auditrail_ingest_retries_total")
		return n > refusalsToSearch+1, fmt.Sprint(n)
	})
	if said := p.readyz(); !strings.Contains(said, "insert "+pm+"/0 has been failing") || strings.Contains(said, "event 1") {
		t.Errorf("/readyz says %q", said)
	}
	if err := p.conn.Exec(t.Context(), "ALTER TABLE audit_events DROP CONSTRAINT test"); err != nil {
		t.Fatal(err)
	}
	p.stored(2)
	p.committed()
	if n := p.gauge("auditrail_ingest_dead_letters_total"); n != 0 {
		t.Errorf("%v dead letters", n)
	}
}
