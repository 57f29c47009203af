package audit

import "strconv"

// walker checks JSON values of any shape. It keeps nothing but the names of
// the objects it is in.
type walker struct {
	p     []byte
	names []string // of the objects around the cursor, innermost last
}

// value checks the JSON value at p[i], no white space before it, and returns
// the index after it. depth counts the arrays and objects around it.
func (w *walker) value(i, depth int) (int, *DecodeError) {
	p := w.p
	if i >= len(p) {
		return 0, fail(i, RuleJSON, "ends where a value must stand")
	}
	switch c := p[i]; {
	case c == '"':
		t, err := scanText(p, i+1)
		return t.end + 1, err
	case c == '{':
		if depth == MaxDepth {
			return 0, tooDeep(i)
		}
		return w.object(i+1, depth+1)
	case c == '[':
		if depth == MaxDepth {
			return 0, tooDeep(i)
		}
		return w.array(i+1, depth+1)
	case c == '-' || c-'0' <= 9:
		end := scanNumber(p, i)
		if end < 0 {
			return 0, fail(i, RuleJSON, "is not a JSON number")
		}
		return end, nil
	}
	for _, word := range [...]string{"null", "true", "false"} {
		if hasWord(p, i, word) {
			return i + len(word), nil
		}
	}
	return 0, fail(i, RuleJSON, "is not a JSON value")
}

// array checks an array from the byte after its bracket.
func (w *walker) array(i, depth int) (int, *DecodeError) {
	p := w.p
	if i = space(p, i); i < len(p) && p[i] == ']' {
		return i + 1, nil
	}
	for {
		end, err := w.value(i, depth)
		if err != nil {
			return 0, err
		}
		i = space(p, end)
		if i < len(p) && p[i] == ',' {
			i = space(p, i+1)
			continue
		}
		if i < len(p) && p[i] == ']' {
			return i + 1, nil
		}
		return 0, fail(i, RuleJSON, "needs a comma or a bracket in an array")
	}
}

// object checks an object from the byte after its brace.
func (w *walker) object(i, depth int) (int, *DecodeError) {
	p := w.p
	if i = space(p, i); i < len(p) && p[i] == '}' {
		return i + 1, nil
	}
	first := len(w.names)
	var many map[string]struct{} // set once comparing one by one gets slow
	for {
		m, err := scanMember(p, i)
		if err != nil {
			return 0, err
		}
		if many, err = w.remember(m.key, first, many, i); err != nil {
			return 0, err
		}
		end, err := w.value(m.at, depth)
		if err != nil {
			return 0, err
		}
		i = space(p, end)
		if i < len(p) && p[i] == ',' {
			i = space(p, i+1)
			continue
		}
		if i < len(p) && p[i] == '}' {
			w.names = w.names[:first]
			return i + 1, nil
		}
		return 0, fail(i, RuleJSON, "needs a comma or a brace in an object")
	}
}

// remember notes a name of the innermost object, whose names start at first,
// and refuses the second of two equal ones.
func (w *walker) remember(name string, first int, many map[string]struct{}, at int) (map[string]struct{}, *DecodeError) {
	const few = 16
	if many == nil {
		for _, have := range w.names[first:] {
			if have == name {
				return nil, duplicate(at, name)
			}
		}
		w.names = append(w.names, name)
		if len(w.names)-first > few {
			many = make(map[string]struct{}, 4*few)
			for _, have := range w.names[first:] {
				many[have] = struct{}{}
			}
		}
		return many, nil
	}
	if _, have := many[name]; have {
		return many, duplicate(at, name)
	}
	many[name] = struct{}{}
	return many, nil
}

// member is a member of an object, read up to its value.
type member struct {
	key   string // the name, unescaped
	start int    // of the name's quote
	end   int    // of the name, after its quote
	at    int    // where the value starts
}

// scanMember reads the name at p[i] and its colon.
func scanMember(p []byte, i int) (member, *DecodeError) {
	if i >= len(p) || p[i] != '"' {
		return member{}, fail(i, RuleJSON, "needs a member name in quotes")
	}
	m := member{start: i}
	if j := asciiRun(p, i+1); j < len(p) && p[j] == '"' {
		m.key, m.end = view(p[i+1:j]), j+1
	} else {
		name, err := scanTextSlow(p, i+1, j)
		if err != nil {
			return member{}, err
		}
		m.key, m.end = name.value(p), name.end+1
	}
	m.at = m.end
	if m.at < len(p) && p[m.at] <= ' ' {
		m.at = space(p, m.at)
	}
	if m.at >= len(p) || p[m.at] != ':' {
		return member{}, fail(m.at, RuleJSON, "needs a colon after a member name")
	}
	if m.at++; m.at < len(p) && p[m.at] <= ' ' {
		m.at = space(p, m.at)
	}
	return m, nil
}

func hasWord(p []byte, i int, word string) bool {
	return len(p)-i >= len(word) && string(p[i:i+len(word)]) == word
}

func tooDeep(i int) *DecodeError {
	return fail(i, RuleDepth, "nests more than "+strconv.Itoa(MaxDepth)+" arrays and objects: flatten the value")
}

func duplicate(i int, name string) *DecodeError {
	return fail(i, RuleDuplicate, "has the name "+shortName(name)+" twice in one object")
}
