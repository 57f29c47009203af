package query

import (
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/store"
)

func TestFlagDefaultsAreTheZeroValuesMeaning(t *testing.T) {
	var cfg Config
	p, err := kong.New(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Parse(nil); err != nil {
		t.Fatal(err)
	}
	want, err := Config{HTTPAddr: "127.0.0.1:8080"}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(cfg, want, cmpopts.IgnoreTypes(identity.Config{}, store.Config{}, kafka.Config{}), cmpopts.IgnoreFields(Config{}, "IngestGroup")); d != "" {
		t.Errorf("(-got +want)\n%s", d)
	}
	for _, wait := range []time.Duration{-1, 21 * time.Second} {
		if _, err := (Config{Limits: Limits{APICallWait: wait}}).withDefaults(); err == nil || !strings.Contains(err.Error(), "--api-call-wait must be 0 to 20s") {
			t.Errorf("a wait of %s: %v", wait, err)
		}
	}
	if _, err := (Config{Limits: Limits{Timeout: -time.Second}}).withDefaults(); err == nil {
		t.Error("a negative limit is accepted")
	}
}
