package ktable

import "github.com/google/uuid"

// Changes tells what changed in a table, for those who make something of it
// that is too much to make anew each time. Safe for concurrent use.
type Changes[V any] struct {
	table *Table[V]
	keys  map[string]struct{} // that changed since the last Take; guarded by table.mu
	anew  bool                // all did; guarded by table.mu
}

// Changes begins with all that memory holds. It lasts as long as the table.
func (t *Table[V]) Changes() *Changes[V] {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &Changes[V]{table: t, keys: map[string]struct{}{}, anew: true}
	t.taken = append(t.taken, c)
	return c
}

// Take returns the entries that changed since the last Take, nil for a key that
// was deleted. anew says that they are all there are, and what was taken before
// is void.
func (c *Changes[V]) Take() (changed map[string]*Entry[V], anew bool) {
	t := c.table
	t.mu.Lock()
	defer t.mu.Unlock()
	anew = c.anew
	changed = make(map[string]*Entry[V], len(c.keys))
	if anew {
		for k, e := range t.values {
			changed[k] = &e
		}
	}
	for k := range c.keys {
		if e, ok := t.values[k]; ok {
			changed[k] = &e
		} else if !anew {
			changed[k] = nil
		}
	}
	clear(c.keys)
	c.anew = false
	return changed, anew
}

// note tells of changes; t.mu is held.
func (t *Table[V]) note(changes []change[V]) {
	for _, c := range t.taken {
		for _, change := range changes {
			c.keys[change.key] = struct{}{}
		}
	}
}

// ID is that of the topic that memory is of: one that is made anew has another.
func (t *Table[V]) ID() uuid.UUID {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.id
}
