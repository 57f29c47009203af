package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/report"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// engineAlone is how long the engine takes to give the rows of a report in its
// format, in one statement: over HTTP to nobody, but gzip, which the engine writes
// to a file. ClickHouse's own HTTP interface would compress the same way.
func (b reportBench) engineAlone(ctx context.Context, o output, n int) (time.Duration, error) {
	spec := b.spec(o, n)
	columns := make([]*field.Field, len(spec.Columns))
	for i, name := range spec.Columns {
		columns[i] = field.Find(field.Events.Fields, name)
	}
	stmt := sqlgen.ReportRows(visibility.For(spec.Requester.Identity()), sqlgen.Filter{}, spec.Pin,
		sqlgen.TimeSpan{From: *spec.Start, To: *spec.End + 1}, columns, o.shape)
	format, settings := stmt.Output()
	settings["max_threads"] = fmt.Sprint(b.cfg.Threads)
	began := time.Now()
	if o.compression == report.Gzip {
		path := filepath.Join(b.dir, "yardstick.gz")
		defer os.Remove(path) //nolint:errcheck // it goes with its folder
		own := clickhouse.Settings{}
		for name, value := range settings {
			own[name] = value
		}
		ctx = clickhouse.Context(ctx, clickhouse.WithParameters(stmt.Params()), clickhouse.WithSettings(own))
		err := b.conn.Exec(ctx, "INSERT INTO FUNCTION file('"+path+"', '"+format+"', 'auto', 'gzip') "+stmt.SQL())
		return time.Since(began), err
	}
	v := url.Values{"default_format": {format}, "database": {b.cfg.Store.Database}}
	for name, value := range settings {
		v.Set(name, value)
	}
	for name, value := range stmt.Params() {
		v.Set("param_"+name, value)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+b.cfg.HTTP.Addr[0]+"/?"+v.Encode(), strings.NewReader(stmt.SQL()))
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close() //nolint:errcheck // only read
	_, err = io.Copy(io.Discard, res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("the engine answers %s", res.Status)
	}
	return time.Since(began), err
}
