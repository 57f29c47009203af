package query

import (
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/store"
)

func TestBytes(t *testing.T) {
	for text, want := range map[string]Bytes{
		"0": 0, "7": 7, "7B": 7, "2GiB": 2 << 30, "2gib": 2 << 30, "512 MiB": 512 << 20, "1TB": 1e12, "3kB": 3000,
	} {
		var b Bytes
		if err := b.UnmarshalText([]byte(text)); err != nil || b != want {
			t.Errorf("%q: %d, %v", text, b, err)
		}
		var again Bytes
		if err := again.UnmarshalText([]byte(b.String())); err != nil || again != b {
			t.Errorf("%q prints as %q: %d, %v", text, b, again, err)
		}
	}
	for _, text := range []string{"", "GiB", "-1", "1.5GiB", "1XB", "9999999999GiB", "1 2"} {
		var b Bytes
		if err := b.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q accepted: %d", text, b)
		}
	}
}

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
	if d := cmp.Diff(cfg, want, cmpopts.IgnoreTypes(identity.Config{}, store.Config{})); d != "" {
		t.Errorf("(-got +want)\n%s", d)
	}
	if _, err := (Config{Timeout: -time.Second}).withDefaults(); err == nil {
		t.Error("a negative limit is accepted")
	}
}
