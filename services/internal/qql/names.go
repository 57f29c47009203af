package qql

import (
	"fmt"
	"strings"

	"github.com/auditrail/auditrail/services/internal/field"
)

// find returns the field of a table with a name, in any case. changes.field is a
// field of the entries of changes, which is returned, too.
func find(of *field.Table, name string) (f, nested *field.Field) {
	if f := field.Find(of.Fields, name); f != nil {
		return f, nil
	}
	if entry, ok := entryOf(of, name); ok {
		if f := field.Find(of.Entries, entry); f != nil {
			return f, of.List
		}
	}
	return nil, nil
}

// entryOf cuts changes. from a name.
func entryOf(of *field.Table, name string) (entry string, ok bool) {
	list, entry, ok := strings.Cut(name, ".")
	return entry, ok && of.List != nil && strings.EqualFold(list, of.List.Name)
}

// resolve finds the field that a test names.
func (p *parser) resolve(h head, s scope) (f, nested *field.Field, err error) {
	if s.nested != nil {
		if f := field.Find(s.fields, h.name); f != nil {
			return f, nil, nil
		}
		return nil, nil, p.errorAt(h.start, fmt.Sprintf("%s:(...) has %s; %s is none of them", s.nested.Name, names(s.fields), clip(h.name)),
			s.nested.Name+":(field: role)")
	}
	if f, nested := find(p.of, h.name); f != nil {
		return f, nested, nil
	}
	message, example := unknown(p.of, h.name), ""
	if f := meant(s.fields, h.name); f != nil {
		example = target{field: f, name: f.Name}.example()
	}
	return nil, nil, p.errorAt(h.start, message, example)
}

// unknown is the message about a name that no field has.
func unknown(of *field.Table, name string) string {
	if entry, ok := entryOf(of, name); ok {
		message := fmt.Sprintf("%s has %s; %s is none of them", of.List.Name, names(of.Entries), clip(name))
		if f := meant(of.Entries, entry); f != nil {
			message += "; did you mean " + of.List.Name + "." + f.Name + "?"
		}
		return message
	}
	message := clip(name) + " is not a field"
	if f := meant(of.Fields, name); f != nil {
		return message + "; did you mean " + f.Name + "?"
	}
	return message + "; fields are " + list(of.Common) + ", among others"
}

// names lists the names of fields.
func names(fields []field.Field) string {
	all := make([]string, len(fields))
	for i, f := range fields {
		all[i] = f.Name
	}
	return list(all)
}

// list joins words for people.
func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

// plain brings names to one form: user_name, User Name and userName are one.
func plain(name string) string {
	return strings.ToLower(strings.NewReplacer(" ", "", "_", "", "-", "").Replace(name))
}

// named returns the field that a name means but for how it is written; titles
// count, too.
func named(fields []field.Field, name string) *field.Field {
	for i := range fields {
		if plain(name) == plain(fields[i].Name) || plain(name) == plain(fields[i].Title) {
			return &fields[i]
		}
	}
	return nil
}

// meant guesses which field was meant by a name that none has: the one that is
// written most alike, else one whose name has it at its beginning or end.
func meant(fields []field.Field, name string) *field.Field {
	if f := named(fields, name); f != nil {
		return f
	}
	name = plain(name)
	var best *field.Field
	least := 1 + min(2, len(name)/3)
	for i := range fields {
		if d := distance(name, plain(fields[i].Name)); d < least {
			best, least = &fields[i], d
		}
	}
	if best != nil || len(name) < 2 {
		return best
	}
	for _, fits := range []func(s, part string) bool{strings.HasPrefix, strings.HasSuffix} {
		for i := range fields {
			if fits(plain(fields[i].Name), name) {
				return &fields[i]
			}
		}
	}
	return nil
}

// distance counts the letters to insert, delete, replace or swap with their
// neighbour to make a of b.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	rows := make([][]int, len(x)+1)
	for i := range rows {
		rows[i] = make([]int, len(y)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(x); i++ {
		for j := 1; j <= len(y); j++ {
			replace := rows[i-1][j-1]
			if x[i-1] != y[j-1] {
				replace++
			}
			rows[i][j] = min(replace, rows[i-1][j]+1, rows[i][j-1]+1)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(x)][len(y)]
}
