package query

import (
	"context"
	"fmt"
	"net/http"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/problem"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// Limits of facets.
const (
	maxFacets        = 10
	maxFacetSize     = 100
	defaultFacetSize = 10
)

// facetsMembers are the members of a request for facets beside askedMembers.
var facetsMembers = []string{"fields", "size"}

// facetsRequest is what POST /audit-log/admin/search/facets asks for.
type facetsRequest struct {
	asked
	fields []*field.Field
	size   int64
}

// read reads facetsMembers.
func (req *facetsRequest) read(f *form) {
	req.size = defaultFacetSize
	if n, ok := f.number("size", 1, maxFacetSize); ok {
		req.size = n
	}
	elements, ok := f.list("fields", maxFacets)
	switch {
	case ok && len(elements) > 0:
	case len(f.violations) == 0 || f.violations[len(f.violations)-1].Field != "fields":
		f.violate(problem.Violation{Field: "fields", Limit: fmt.Sprintf("1 to %d", maxFacets), Message: fmt.Sprintf("must list 1 to %d fields", maxFacets)})
		return
	default:
		return
	}
	seen := map[string]bool{}
	for i, raw := range elements {
		at := fmt.Sprintf("fields[%d]", i)
		if raw.Kind() != '"' {
			f.violate(problem.Violation{Field: at, Value: problem.Shorten(string(raw)), Message: "must be a string"})
			continue
		}
		found := f.named(at, unquote(raw), sqlgen.Facetable)
		if found == nil {
			continue
		}
		if seen[found.Name] {
			f.violate(problem.Violation{Field: at, Value: found.Name, Message: "is given more than once"})
		}
		seen[found.Name] = true
		req.fields = append(req.fields, found)
	}
}

// facets answers POST /audit-log/admin/search/facets: the most frequent values
// of some fields, with exact counts.
func (s *Service) facets(w http.ResponseWriter, r *http.Request, id identity.Identity) (err error) {
	var req facetsRequest
	if req.asked, err = readAsked(w, r, id, facetsMembers, req.read); err != nil {
		return err
	}
	if err := s.bound(r.Context(), id, &req.asked); err != nil {
		return err
	}
	return s.answer(w, r, id, req.describe("facets"), func(ctx context.Context) (found, error) {
		complete := s.horizon.completeUpTo(req.of)
		facets, err := s.count(ctx, visibility.For(id), req.filter, req.fields, req.size)
		if err != nil {
			return found{}, err
		}
		answer := []byte(`{"facets":[`)
		for i, f := range facets {
			if i > 0 {
				answer = append(answer, ',')
			}
			answer = f.appendJSON(answer)
		}
		answer = fmt.Appendf(answer, `],"totalCount":%d,`, facets[0].total)
		answer = req.appendApplied(answer)
		answer = append(answer, `,"completeUpTo":`+complete+"}"...)
		return found{body: answer, events: int64(min(facets[0].total, 1<<62))}, nil
	})
}

// facet is how often the values of one field occur.
type facet struct {
	field    *field.Field
	values   []valueCount // the most frequent first, ties by value
	distinct uint64       // values in all, the absent one included
	total    uint64       // events in all
}

type valueCount struct {
	value string // empty: the event has none
	n     uint64
}

// count counts the values of fields, one facet a field.
func (s *Service) count(ctx context.Context, see visibility.View, filter sqlgen.Filter, fields []*field.Field, size int64) ([]facet, error) {
	facets := make([]facet, len(fields))
	for i, f := range fields {
		facets[i].field = f
	}
	err := s.engine.query(ctx, "facets", sqlgen.Facets(see, filter, fields, size), func(r driver.Rows) error {
		var of uint8
		var v valueCount
		var distinct, total uint64
		if err := r.Scan(&of, &v.value, &v.n, &distinct, &total); err != nil {
			return err
		}
		if int(of) >= len(facets) {
			return fmt.Errorf("facet %d of %d", of, len(facets))
		}
		f := &facets[of]
		f.values, f.distinct, f.total = append(f.values, v), distinct, total
		return nil
	})
	return facets, err
}

// appendJSON appends the facet as an object. A value that is absent is null;
// what is not shown is otherCount.
func (f facet) appendJSON(b []byte) []byte {
	b = fmt.Appendf(b, `{"field":"%s",`, f.field.Name)
	b, shown := f.appendValues(b)
	return fmt.Appendf(b, `,"distinctCount":%d,"otherCount":%d}`, f.distinct, f.total-shown)
}

// appendValues appends the member values, and returns how many events have one
// of them.
func (f facet) appendValues(b []byte) (_ []byte, shown uint64) {
	b = append(b, `"values":[`...)
	for i, v := range f.values {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"value":`...)
		switch {
		case v.value == "":
			b = append(b, "null"...)
		case f.field.Type == field.Number:
			b = append(b, v.value...)
		case f.field.Type == field.Address:
			b = appendText(b, plainAddress(v.value))
		default:
			b = appendText(b, v.value)
		}
		b = fmt.Appendf(b, `,"count":%d}`, v.n)
		shown += v.n
	}
	return append(b, ']'), shown
}
