// Package deadletter lists and shows the records that broke the contract, and
// puts them back on their topics. The dead-letter topic is all its memory: a
// letter is closed by a marker beside it, a record with the letter's key that
// is written once the record is back on its topic.
package deadletter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/internal/kafka"
)

// ListConfig says what to list. Its tags are flags; see auditrail --help.
type ListConfig struct {
	Kafka           kafka.Config `embed:""`
	Filter          Filter       `embed:""`
	IncludeRedriven bool         `help:"Also list those that were redriven." env:"-"`
	Order           string       `help:"Which come first: ${enum}, by append time." enum:"newest,oldest" default:"newest"`
	Limit           int          `help:"Dead letters to list, at most; 0 lists all, and holds them in memory." default:"100"`
	Output          string       `help:"Form: ${enum}; json is one object a line." enum:"table,json" default:"table"`
}

// Validate names the first wrong value.
func (c ListConfig) Validate() error {
	if c.Limit < 0 {
		return fmt.Errorf("--limit must not be negative, not %d", c.Limit)
	}
	return c.Filter.Validate()
}

// ShowConfig says what to show. Its tags are flags; see auditrail --help.
type ShowConfig struct {
	Kafka  kafka.Config `embed:""`
	Letter Position     `arg:"" help:"Key of the dead letter, or topic/partition/offset of its record."`
	Raw    bool         `help:"Only the value, byte for byte." env:"-"`
}

// RedriveConfig says what to redrive. Its tags are flags; see auditrail --help.
// What chooses letters has no environment variable: one that happens to be set
// would answer the question whether all are meant.
type RedriveConfig struct {
	Kafka           kafka.Config `embed:""`
	Letters         []Position   `arg:"" optional:"" name:"letter" help:"Keys of dead letters, or topic/partition/offset of their records. None: whatever the filters let through."`
	Filter          Filter       `embed:""`
	All             bool         `help:"Redrive every open dead letter; needed when there is neither a letter nor a filter." env:"-"`
	IncludeRedriven bool         `help:"Also those that were redriven before. Ingest stores an event once, however often it is redriven." env:"-"`
	DryRun          bool         `help:"Say what would be done, and write nothing." env:"-"`
	Force           bool         `help:"Also send records that are expected to fail again." env:"-"`
	RetentionDays   uint16       `help:"Days an event is kept, as ingest has it: older ones would fail again." default:"400"`
}

// Validate names the first wrong value.
func (c RedriveConfig) Validate() error {
	switch {
	case c.RetentionDays < 1:
		return errors.New("--retention-days must be at least 1")
	case !c.All && len(c.Letters) == 0 && c.Filter.empty():
		return errors.New("name dead letters or a filter such as --reason, or say --all; --dry-run shows what would be done")
	}
	return c.Filter.Validate()
}

// Deps of the commands.
type Deps struct {
	Log   *zap.Logger
	Out   io.Writer // gets the results
	Notes io.Writer // gets progress, and what is not a result
}

// start opens a client and takes a snapshot of the dead-letter topic.
func start(ctx context.Context, cfg kafka.Config, deps Deps, opts ...kgo.Opt) (*kgo.Client, *snapshot, error) {
	cl, err := kafka.Open(ctx, cfg, deps.Log, opts...)
	if err != nil {
		return nil, nil, err
	}
	s, err := takeSnapshot(ctx, cl, cfg, deps)
	if err != nil {
		cl.Close()
		return nil, nil, err
	}
	return cl, s, nil
}

// stopped gives the error of a command that a signal ended a sentence.
func stopped(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return errors.New("stopped before the end")
	}
	return err
}

// notFound names the letters that no record of the topic is.
func notFound(missing []string) error {
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("no dead letter of %s: it may have been there and aged out; auditrail deadletter list shows what there is", strings.Join(missing, ", "))
}
