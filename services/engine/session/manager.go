//go:build !noengine && (linux || darwin)

// Package session keeps the engine's sessions: their settings, the queries that
// run in them, and how to kill those.
package session

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/auditrail/auditrail/services/engine/chdb"
	"github.com/auditrail/auditrail/services/engine/sqltext"
)

// Manager opens sessions on one data directory. It is safe for concurrent use.
type Manager struct {
	dir      string
	settings map[string]bool // every setting's name, aliases included
	version  [3]uint64
	timezone string
	last     atomic.Uint64 // session number

	mu      sync.Mutex
	control *chdb.Conn // kills queries, and keeps the engine up; guarded by mu
}

// Open boots the engine on dir. chdb.Load comes first. The caller closes it
// after all of its sessions.
func Open(dir string) (*Manager, error) {
	conn, err := chdb.Connect(dir)
	if err != nil {
		return nil, err
	}
	m := &Manager{dir: dir, control: conn, settings: map[string]bool{}}
	if err := m.readServer(); err != nil {
		conn.Close()
		return nil, err
	}
	return m, nil
}

func (m *Manager) readServer() error {
	row, err := m.control.Row("SELECT version(), timezone()")
	if err != nil {
		return err
	}
	if len(row) != 2 {
		return fmt.Errorf("engine version: %q", row)
	}
	m.timezone = row[1]
	for i, part := range strings.SplitN(row[0], ".", 4) {
		if i < len(m.version) {
			m.version[i], _ = strconv.ParseUint(part, 10, 64)
		}
	}
	r, err := m.control.Query("SELECT name FROM system.settings", "TSVRaw")
	if err != nil {
		return err
	}
	defer r.Free()
	for name := range strings.Lines(string(r.Bytes())) {
		m.settings[strings.TrimSuffix(name, "\n")] = true
	}
	return nil
}

// Version is the engine's version: 26, 7, 2.
func (m *Manager) Version() [3]uint64 { return m.version }

// Timezone is the engine's time zone, such as "UTC".
func (m *Manager) Timezone() string { return m.timezone }

// Close stops the engine. Every session must be closed before.
func (m *Manager) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.control.Close()
}

// kill stops the query that runs under tag, if one does.
func (m *Manager) kill(tag string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	quoted := sqltext.Quote(tag)
	return m.control.Exec("KILL QUERY WHERE startsWith(Settings['log_comment'], " + quoted + ")" +
		" OR (endsWith(query, " + sqltext.Quote(tagComment(tag)) + ") AND query_kind != 'KillQuery') ASYNC")
}

// tagComment is the tag as a query's last words.
func tagComment(tag string) string { return "/* " + tag + " */" }

// defaults hold for every session: what the protocol's clients can read, and the
// whole text of queries in the process list, whose end is the tag.
const defaults = "output_format_native_write_json_as_string=1, print_pretty_type_names=0, log_queries_cut_to_length=1073741824"

// New opens a session. An unknown database is a *chdb.Error with code 81. The
// caller closes it.
func (m *Manager) New(database string) (*Session, error) {
	conn, err := chdb.Connect(m.dir)
	if err != nil {
		return nil, err
	}
	s := &Session{
		conn: conn, manager: m, applied: map[string]string{},
		tag: fmt.Sprintf("session %d-%d.", os.Getpid(), m.last.Add(1)),
	}
	if err := s.init(database); err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}
