// Package migrate prepares what the services need: ClickHouse tables and Kafka
// topics. It is safe to run again, and before every upgrade.
package migrate

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/store"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// Config of the migration.
type Config struct {
	Kafka  kafka.Config `embed:""`
	Store  store.Config `embed:""`
	Topics topic.Config `embed:""`
}

// Deps of the migration.
type Deps struct {
	Log *zap.Logger
}

// Run brings tables and topics to what this binary needs. Forward only: it
// never drops, alters or shrinks what it finds.
func Run(ctx context.Context, cfg Config, deps Deps) error {
	if err := cfg.Topics.Validate(); err != nil {
		return err
	}
	steps, err := store.Migrate(ctx, cfg.Store, deps.Log)
	if err != nil {
		return err
	}
	deps.Log.Info("tables are current", zap.Int64("version", store.SchemaVersion), zap.Int("steps", steps))

	cl, err := kafka.Open(ctx, cfg.Kafka, deps.Log)
	if err != nil {
		return err
	}
	defer cl.Close()
	specs := cfg.Topics.Specs()
	created, err := topic.Ensure(ctx, cl, specs)
	if err != nil {
		return err
	}
	deps.Log.Info("topics are current", zap.Int("topics", len(specs)), zap.Int("created", len(created)))
	if err := topic.Check(ctx, cl); err != nil {
		return fmt.Errorf("check topics: %w", err)
	}
	return nil
}
