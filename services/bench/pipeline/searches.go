package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"golang.org/x/sync/errgroup"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/qql"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
	"github.com/auditrail/auditrail/services/internal/visibility"
	"github.com/auditrail/auditrail/services/internal/workload"
)

const (
	searchAPI    = "/audit-log/admin/search"
	histogramAPI = searchAPI + "/histogram"
)

// search is one question: to the API, and as the statements that the API sends
// for it.
type search struct {
	name       string
	qql        string
	pageNumber int64
	pageSize   int64 // 0: a histogram by day
}

// wordMany is a word of one comment in 14.
const wordMany = "onboarding"

// searches are those that the product promises its speed for. user is a busy
// one of the customer.
func searches(user workload.User) []search {
	return []search{
		{name: "newest 100", pageSize: 100},
		{name: "action + user", qql: "action: `Update` AND userUuid: `" + user.UUID + "`", pageSize: 100},
		{name: "count", pageSize: 1},
		{name: "common word", qql: wordMany, pageSize: 100},
		{name: "rare word", qql: workload.RareWord, pageSize: 100},
		{name: "rare word of a field", qql: "auditComment: " + workload.RareWord, pageSize: 100},
		{name: "beginning of a rare word", qql: workload.RareWord[:9], pageSize: 100},
		{name: "page 100", pageNumber: 100, pageSize: 100},
		{name: "histogram"},
	}
}

// span is the time that searches ask about, in ms since 1970, both inclusive.
type span struct{ from, to int64 }

// body is the request to the API.
func (s search) body(over span) (path string, body []byte, err error) {
	request := map[string]any{"startDate": over.from, "endDate": over.to, "qql": s.qql}
	path = searchAPI
	if s.pageSize == 0 {
		path, request["interval"] = histogramAPI, "1d"
	} else {
		request["pageNumber"], request["pageSize"] = s.pageNumber, s.pageSize
	}
	body, err = json.Marshal(request)
	return path, body, err
}

// statements are what the API sends to the engine, at the same time.
func (s search) statements(see visibility.Predicate, over span) ([]sqlgen.Statement, error) {
	where, err := qql.Parse(field.Events, s.qql)
	if err != nil {
		return nil, err
	}
	f := sqlgen.Filter{Start: &over.from, End: &over.to, Where: where, Now: time.UnixMilli(over.to)}
	if s.pageSize > 0 {
		return []sqlgen.Statement{
			sqlgen.Rows(see, f, sqlgen.Page{Offset: s.pageNumber * s.pageSize, Limit: s.pageSize + 1}),
			sqlgen.Count(see, f),
		}, nil
	}
	const day = 24 * int64(time.Hour/time.Millisecond)
	var bounds []int64
	for at := over.from - over.from%day; at <= over.to; at += day {
		bounds = append(bounds, at)
	}
	return []sqlgen.Statement{sqlgen.Histogram(see, f, bounds)}, nil
}

// client asks the API as one caller.
type client struct {
	http  *http.Client
	base  string // http://host:port
	token string
}

// ask returns the answer's totalCount. Status other than 200 is an error.
func (c client) ask(ctx context.Context, path string, body []byte) (total uint64, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	r.Header.Set("Content-Type", "application/json")
	w, err := c.http.Do(r)
	if err != nil {
		return 0, err
	}
	defer w.Body.Close() //nolint:errcheck // read to its end
	answer, err := io.ReadAll(w.Body)
	if err != nil {
		return 0, err
	}
	if w.StatusCode != http.StatusOK {
		return 0, &refusal{w.StatusCode, answer}
	}
	var a struct{ TotalCount uint64 }
	return a.TotalCount, json.Unmarshal(answer, &a)
}

// refusal is an answer other than 200.
type refusal struct {
	status int
	body   []byte
}

func (r *refusal) Error() string { return fmt.Sprintf("status %d: %s", r.status, r.body) }

// answer1 sends a statement to the engine, in these words, and reads all rows.
// It returns the sum of the last column: of a count and of a histogram, how
// many events there are.
func answer1(ctx context.Context, conn driver.Conn, s sqlgen.Statement, sql string) (total uint64, err error) {
	ctx = clickhouse.Context(ctx, clickhouse.WithParameters(s.Params()), clickhouse.WithSettings(sqlgen.Settings))
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		return 0, err
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	dest := destinations(rows)
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return 0, err
		}
		if n, ok := dest[len(dest)-1].(*uint64); ok {
			total += *n
		}
	}
	return total, rows.Err()
}

// straight sends the statements at the same time, as the API does, and
// returns what the last one counts.
func straight(ctx context.Context, conn driver.Conn, statements []sqlgen.Statement) (total uint64, err error) {
	totals := make([]uint64, len(statements))
	g, ctx := errgroup.WithContext(ctx)
	for i, s := range statements {
		g.Go(func() (err error) {
			totals[i], err = answer1(ctx, conn, s, s.SQL())
			return err
		})
	}
	err = g.Wait()
	return totals[len(totals)-1], err
}
