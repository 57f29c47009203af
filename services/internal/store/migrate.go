package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/pressly/goose/v3"
	"go.uber.org/zap"
)

//go:embed migrations/*.sql
var migrations embed.FS

// versionTable holds the applied migrations.
const versionTable = "schema_migrations"

// SchemaVersion is the version of the newest embedded migration: what this
// binary needs.
var SchemaVersion = newest()

// ErrSchema tells that the database's schema is older than this binary needs.
var ErrSchema = errors.New("database schema is too old")

func newest() int64 {
	entries, err := fs.ReadDir(migrations, "migrations")
	if err != nil {
		panic(err) // the files are embedded
	}
	v, err := goose.NumericComponent(entries[len(entries)-1].Name())
	if err != nil {
		panic(err) // a migration's name starts with its number
	}
	return v
}

// Migrate brings the database to SchemaVersion, creating it when needed, and
// returns how many steps it took. Forward only. If we die within a step, the
// next run repeats the step: every statement is written to bear that.
func Migrate(ctx context.Context, c Config, log *zap.Logger) (int, error) {
	if err := createDatabase(ctx, c); err != nil {
		return 0, err
	}
	db := clickhouse.OpenDB(c.Options())
	defer func() { _ = db.Close() }() // nothing is buffered in it
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return 0, err
	}
	p, err := goose.NewProvider(goose.DialectClickHouse, db, files, goose.WithTableName(versionTable))
	if err != nil {
		return 0, fmt.Errorf("migrations: %w", err)
	}
	steps, err := p.Up(ctx)
	for _, s := range steps {
		log.Info("migration applied", zap.String("name", s.Source.Path), zap.Duration("took", s.Duration))
	}
	if err != nil {
		return len(steps), fmt.Errorf("migrate database %s: %w", c.Database, err)
	}
	return len(steps), nil
}

// createDatabase connects without naming the database, which may not exist.
func createDatabase(ctx context.Context, c Config) error {
	name := c.Database
	c.Database = ""
	conn, err := Open(ctx, c)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing is buffered in it
	// An identifier cannot be bound as a value in CREATE DATABASE everywhere,
	// so the name is checked instead: it is an operator's word, not a user's.
	if !identifier.MatchString(name) {
		return fmt.Errorf("--clickhouse-database %q: a name of letters, digits and underscores is needed", name)
	}
	if err := conn.Exec(ctx, "CREATE DATABASE IF NOT EXISTS "+name); err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return nil
}

// unknownTable is ClickHouse's code for a table that does not exist.
const unknownTable = 60

// CheckSchema returns nil when the database is at SchemaVersion or newer, and
// an error that wraps ErrSchema and says what to run when it is older.
func CheckSchema(ctx context.Context, conn driver.Conn) error {
	var have int64
	err := conn.QueryRow(ctx, "SELECT max(version_id) FROM "+versionTable+" WHERE is_applied").Scan(&have)
	var ex *clickhouse.Exception
	switch {
	case errors.As(err, &ex) && ex.Code == unknownTable:
		have = 0
	case err != nil:
		return fmt.Errorf("read schema version: %w", err)
	}
	if have < SchemaVersion {
		return fmt.Errorf("%w: it is at version %d, this binary needs %d: run auditrail migrate", ErrSchema, have, SchemaVersion)
	}
	return nil
}
