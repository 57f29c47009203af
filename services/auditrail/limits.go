package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"reflect"

	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/services/internal/limits"
)

type limitsCmd struct {
	Show  limitsShowCmd  `cmd:"" help:"Print the limits that were set for a subscription's API calls as JSON; {} where those of its tier count."`
	Set   limitsSetCmd   `cmd:"" help:"Set the limits of a subscription's API calls, in place of all that were set before, and print them."`
	Unset limitsUnsetCmd `cmd:"" help:"Go back to the limits of the subscription's tier."`
}

type limitsShowCmd struct {
	settingsOf
}

type limitsSetCmd struct {
	settingsOf
	Limits string `arg:"" help:"As JSON: {\"default\": LIMIT, \"apis\": {NAME: LIMIT}}, where LIMIT is {\"concurrency\": 2, \"calls\": 300, \"windowSec\": 3600} or {\"unlimited\": true}, and a NAME that ends in * is of all that begin so."`
}

type limitsUnsetCmd struct {
	settingsOf
}

// Run prints the limits.
func (c *limitsShowCmd) Run(ctx context.Context, log *zap.Logger) error {
	table, err := limits.Open(ctx, c.Kafka, log)
	if err != nil {
		return err
	}
	defer table.Close()
	o, err := table.Get(ctx, c.Customer)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(o)
}

// Run sets the limits.
func (c *limitsSetCmd) Run(ctx context.Context, log *zap.Logger) error {
	var o apicall.Override
	if err := o.UnmarshalJSON([]byte(c.Limits)); err != nil {
		return err
	}
	return c.setLimits(ctx, o, log)
}

// Run takes the limits back.
func (c *limitsUnsetCmd) Run(ctx context.Context, log *zap.Logger) error {
	return c.setLimits(ctx, apicall.Override{}, log)
}

// setLimits sets them, as an audit event of the operator, and prints what they
// are then.
func (c *settingsOf) setLimits(ctx context.Context, wanted apicall.Override, log *zap.Logger) error {
	record, closeRecord, err := c.recorder(ctx, "auditrail limits", log)
	if err != nil {
		return err
	}
	defer closeRecord()
	table, err := limits.Open(ctx, c.Kafka, log)
	if err != nil {
		return err
	}
	defer table.Close()
	before, after, err := table.Update(ctx, c.Customer, func(o *apicall.Override) error { *o = wanted; return nil }, record)
	if err != nil {
		return err
	}
	if reflect.DeepEqual(before, after) {
		fmt.Fprintf(os.Stderr, "limits of %s: as before\n", c.Customer)
	}
	return json.NewEncoder(os.Stdout).Encode(after)
}
