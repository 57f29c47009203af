// Command auditrail is the audit-event pipeline in one binary: every service
// is a subcommand, and dev runs all of them on embedded parts.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"
	redislog "github.com/redis/go-redis/v9/logging"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

type cli struct {
	LogLevel  zapcore.Level `help:"Least severe level to log: debug, info, warn, error." default:"info"`
	LogFormat string        `help:"Form of log lines: console for people, json for machines." enum:"console,json" default:"console"`

	Dev        devCmd        `cmd:"" help:"Run everything in one process tree on embedded parts, with demo data."`
	Ingest     ingestCmd     `cmd:"" help:"Carry events and API calls from Kafka into ClickHouse, and end calls whose process died."`
	Reporter   reporterCmd   `cmd:"" help:"Make the reports that were asked for."`
	Query      queryCmd      `cmd:"" help:"Serve search over HTTP."`
	Migrate    migrateCmd    `cmd:"" help:"Prepare ClickHouse tables and Kafka topics. Safe to repeat."`
	Engine     engineCmd     `cmd:"" help:"Run the embedded ClickHouse engine (development and tests)."`
	Broker     brokerCmd     `cmd:"" help:"Run the embedded Kafka broker (development and tests)."`
	Deadletter deadletterCmd `cmd:"" help:"List, show and redrive records that broke the contract."`
	Emit       emitCmd       `cmd:"" help:"Publish events given as JSON lines on standard input."`
	Settings   settingsCmd   `cmd:"" help:"Show or change what a subscription chose, such as how long its events are kept."`
	Limits     limitsCmd     `cmd:"" help:"Show or set the limits of a subscription's API calls."`
	Report     reportCmd     `cmd:"" help:"Verify a report that was downloaded."`
	Token      tokenCmd      `cmd:"" help:"Print a token that the dev of a data folder accepts."`
	Loadgen    loadgenCmd    `cmd:"" help:"Emit made-up events at a chosen rate."`
	Version    versionCmd    `cmd:"" help:"Print the version."`
}

const about = `Auditrail keeps the audit events of your product modules and lets people find them.

Flags of services have environment variables: --kafka-addr is AUDITRAIL_KAFKA_ADDR. Start with "auditrail dev".`

// envNames gives every flag its environment variable.
var envNames = kong.DefaultEnvars("AUDITRAIL")

func main() {
	var c cli
	app := kong.Parse(&c, kong.Name("auditrail"), kong.Description(about), envNames, demoVars(), kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	log := newLogger(c.LogLevel, c.LogFormat)
	redislog.Disable() // it writes past log what comes back as errors, too

	// The first signal asks for a drain, the second ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)

	app.BindTo(ctx, (*context.Context)(nil))
	err := app.Run(log)
	_ = log.Sync() // a terminal cannot be synced, and that is no error of ours
	if err != nil {
		fmt.Fprintln(os.Stderr, "auditrail:", err)
		os.Exit(1)
	}
}

// newLogger writes to standard error; standard output belongs to results.
func newLogger(level zapcore.Level, format string) *zap.Logger {
	cfg := zap.NewProductionEncoderConfig()
	cfg.EncodeTime = zapcore.RFC3339TimeEncoder
	cfg.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewJSONEncoder(cfg)
	if format == "console" {
		cfg.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder = zapcore.NewConsoleEncoder(cfg)
	}
	core := zapcore.NewCore(encoder, zapcore.Lock(os.Stderr), level)
	return zap.New(core)
}

type versionCmd struct{}

// Run prints the module version and the commit it was built from.
func (versionCmd) Run() error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return fmt.Errorf("this binary carries no build information")
	}
	version, revision := info.Main.Version, ""
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			revision = " " + s.Value
		}
	}
	fmt.Printf("auditrail %s%s %s\n", version, revision, info.GoVersion)
	return nil
}
