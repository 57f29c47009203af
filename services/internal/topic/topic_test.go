package topic

import (
	"testing"
	"time"
)

// TestTablesKeepTheirRecords: time and size must not take what is current.
func TestTablesKeepTheirRecords(t *testing.T) {
	found := 0
	for _, s := range (Config{Modules: []string{"PM"}, Partitions: 2, Replication: 1, Retention: time.Hour}).Specs() {
		for key, want := range critical(s.Name) {
			if s.Config[key] != want {
				t.Errorf("%s is made with %s=%s, and checked to be %s", s.Name, key, s.Config[key], want)
			}
		}
		if s.Config["cleanup.policy"] != "compact" {
			continue
		}
		found++
		if s.Partitions != 1 || s.Config["retention.ms"] != "-1" || s.Config["retention.bytes"] != "-1" || s.Config["max.compaction.lag.ms"] != "" {
			t.Errorf("%s: %d partitions, %v", s.Name, s.Partitions, s.Config)
		}
	}
	if found != len(tables) {
		t.Errorf("%d tables, want %d", found, len(tables))
	}
}
