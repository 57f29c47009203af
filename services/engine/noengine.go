//go:build noengine || !(linux || darwin)

package engine

import (
	"context"
	"errors"
)

var errNoEngine = errors.New("this program was built without the embedded ClickHouse engine; " +
	"run a ClickHouse server and point --clickhouse-addr at it")

func run(context.Context, Config, Deps) error { return errNoEngine }

func fetch(context.Context, Config) (string, error) { return "", errNoEngine }
