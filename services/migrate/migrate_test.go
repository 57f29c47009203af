package migrate

import (
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/store"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func TestMigrateTwiceAndSideBySide(t *testing.T) {
	t.Parallel()
	cfg := Config{
		Kafka: testenv.Kafka(t), Store: testenv.ClickHouse(t).Config(),
		Topics: topic.Config{Modules: []string{"PM", "VM"}, Partitions: 2, Replication: 1, Retention: time.Hour},
	}
	conn, err := store.Open(t.Context(), cfg.Store)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := store.CheckSchema(t.Context(), conn); err == nil || !strings.Contains(err.Error(), "run auditrail migrate") {
		t.Errorf("on an empty database: %v, want what to run", err)
	}
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if err := Run(t.Context(), cfg, Deps{Log: zaptest.NewLogger(t)}); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	if err := store.CheckSchema(t.Context(), conn); err != nil {
		t.Error(err)
	}
	cl, err := kafka.Open(t.Context(), cfg.Kafka, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	before, err := topic.IDs(t.Context(), cl)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Topics.Modules = append(cfg.Topics.Modules, "WAS") // a new module
	if err := Run(t.Context(), cfg, Deps{Log: zaptest.NewLogger(t)}); err != nil {
		t.Fatal(err)
	}
	after, err := topic.IDs(t.Context(), cl)
	if err != nil {
		t.Fatal(err)
	}
	if len(after) != len(before)+1 {
		t.Errorf("got %d topics, want %d", len(after), len(before)+1)
	}
	for name, id := range before {
		if after[name] != id {
			t.Errorf("topic %s was made anew", name)
		}
	}
}

func TestModulesAreChecked(t *testing.T) {
	good := topic.Config{Modules: []string{"PM"}, Partitions: 1, Replication: 1, Retention: time.Hour}
	for want, edit := range map[string]func(*topic.Config){
		"--modules":         func(c *topic.Config) { c.Modules = []string{"PM", "p-m"} },
		"--partitions":      func(c *topic.Config) { c.Partitions = 0 },
		"--topic-retention": func(c *topic.Config) { c.Retention = 0 },
	} {
		c := good
		edit(&c)
		if err := Run(t.Context(), Config{Topics: c}, Deps{Log: zaptest.NewLogger(t)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s named", err, want)
		}
	}
}
