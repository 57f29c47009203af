package query

import (
	"context"
	"fmt"
	"net/http"

	"github.com/auditrail/auditrail/services/internal/field"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/qql"
	"github.com/auditrail/auditrail/services/internal/sqlgen"
	"github.com/auditrail/auditrail/services/internal/visibility"
)

// defaultFieldValues is how many values a field is described with.
const defaultFieldValues = 10

// described are the fields whose values are listed: those of type Keyword.
var described = func() (fields []*field.Field) {
	for _, f := range allOf(field.Events) {
		if f.Type == field.Keyword {
			fields = append(fields, f)
		}
	}
	return fields
}()

// typeNames of fields, for clients.
var typeNames = map[field.Type]string{
	field.UUID: "uuid", field.Number: "number", field.Keyword: "keyword", field.Text: "text",
	field.Opaque: "opaque", field.Address: "address", field.Instant: "instant", field.JSON: "json",
}

// fields answers GET /audit-log/admin/search/fields: what can be asked about,
// for editors and completion. The values are the frequent ones of the default
// timeframe, of what the caller may see.
func (s *Service) fields(w http.ResponseWriter, r *http.Request, id identity.Identity) error {
	size, err := valuesParameter(r)
	if err != nil {
		return err
	}
	a := asked{of: field.Events}
	if err := s.bound(r.Context(), id, &a); err != nil {
		return err
	}
	if size == 0 {
		return writeJSON(w, append(appendFields(nil, nil), '}'))
	}
	return s.answer(w, r, id, a.describe("values of fields"), func(ctx context.Context) (found, error) {
		complete := s.horizon.completeUpTo(a.of)
		facets, err := s.count(ctx, visibility.For(id), a.filter, described, size)
		if err != nil {
			return found{}, err
		}
		answer := append(appendFields(nil, facets), ',')
		answer = a.appendApplied(answer)
		answer = append(answer, `,"completeUpTo":`+complete+"}"...)
		return found{body: answer, events: int64(min(facets[0].total, 1<<62))}, nil
	})
}

// valuesParameter reads the only parameter.
func valuesParameter(r *http.Request) (size int64, err error) {
	f, err := readParameters(r, field.Events, []string{"values"}, nil)
	if err != nil {
		return 0, err
	}
	size, ok := f.number("values", 0, maxFacetSize)
	if !ok {
		size = defaultFieldValues
	}
	return size, f.err()
}

// appendFields begins the answer's object: the member fields.
func appendFields(b []byte, facets []facet) []byte {
	values := map[*field.Field]facet{}
	for _, f := range facets {
		values[f.field] = f
	}
	b = append(b, `{"fields":[`...)
	for i, f := range allOf(field.Events) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"name":`...)
		b = appendText(b, f.Name)
		b = append(b, `,"title":`...)
		b = appendText(b, f.Title)
		b = fmt.Appendf(b, `,"type":"%s","operators":`, typeNames[f.Type])
		b = appendTexts(b, qql.Operators(f.Type))
		b = appendTexts(append(b, `,"filterOperators":`...), qql.FilterOperators(f.Type))
		b = fmt.Appendf(b, `,"sortable":%t,"facetable":%t`, sqlgen.Sortable(f), sqlgen.Facetable(f))
		if facet, ok := values[f]; ok {
			b = append(b, ',')
			b, _ = facet.appendValues(b)
		}
		b = append(b, '}')
	}
	return append(b, ']')
}

// appendTexts appends a JSON list.
func appendTexts(b []byte, texts []string) []byte {
	b = append(b, '[')
	for i, text := range texts {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendText(b, text)
	}
	return append(b, ']')
}
