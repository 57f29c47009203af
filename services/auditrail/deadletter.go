package main

import (
	"context"
	"os"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/services/deadletter"
)

type deadletterCmd struct {
	List    deadletterListCmd    `cmd:"" help:"List the dead letters that are open."`
	Show    deadletterShowCmd    `cmd:"" help:"Show everything about one dead letter."`
	Redrive deadletterRedriveCmd `cmd:"" help:"Put records back on their topics."`
}

func deadletterDeps(log *zap.Logger) deadletter.Deps {
	return deadletter.Deps{Log: log, Out: os.Stdout, Notes: os.Stderr}
}

type deadletterListCmd struct{ deadletter.ListConfig }

// Run lists.
func (c *deadletterListCmd) Run(ctx context.Context, log *zap.Logger) error {
	return deadletter.List(ctx, c.ListConfig, deadletterDeps(log))
}

// Help is the manual's long part.
func (deadletterListCmd) Help() string {
	return `Reads the dead-letter topic up to its end at the start, and prints the letters that pass every filter and were not redriven. Memory: 100 bytes for every letter that passes, and the lines listed.

Examples:
  auditrail deadletter list --since 24h
  auditrail deadletter list --reason too-old,too-new --module PM
  auditrail deadletter list --customer 1c9a83aa-20p8-e972-8036-899e5e608855 --order oldest
  auditrail deadletter list --limit 0 --output json | jq -r .reason | sort | uniq -c`
}

type deadletterShowCmd struct{ deadletter.ShowConfig }

// Run shows one.
func (c *deadletterShowCmd) Run(ctx context.Context, log *zap.Logger) error {
	return deadletter.Show(ctx, c.ShowConfig, deadletterDeps(log))
}

// Help is the manual's long part.
func (deadletterShowCmd) Help() string {
	return `Prints where the record stood, what is wrong with it, its headers and its value: JSON indented, other text as it is, bytes as a dump.

Examples:
  auditrail deadletter show audit.events.pm.v1/0/12
  auditrail deadletter show audit.events.pm.v1/0/12 --raw > record.json`
}

type deadletterRedriveCmd struct{ deadletter.RedriveConfig }

// Run redrives.
func (c *deadletterRedriveCmd) Run(ctx context.Context, log *zap.Logger) error {
	return deadletter.Redrive(ctx, c.RedriveConfig, deadletterDeps(log))
}

// Help is the manual's long part.
func (deadletterRedriveCmd) Help() string {
	return `Puts records back on their topics with their own key, value and headers, once what was wrong is mended: a setting, a rule, a release. Records that would fail again are skipped; a redriven record that fails all the same becomes a new dead letter. Interrupted or repeated, it is safe: ingest stores an event once.

Examples:
  auditrail deadletter redrive --reason too-old --module PM --dry-run
  auditrail deadletter redrive --reason too-old --module PM
  auditrail deadletter redrive audit.events.pm.v1/0/12 audit.events.pm.v1/1/7`
}
