package visibility

// View is what a caller may see of one kind of record: a Predicate of audit
// events, Calls of API calls. There are no others.
type View interface{ view() }

func (Predicate) view() {}
func (Calls) view()     {}
