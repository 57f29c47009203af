//go:build !noengine && (linux || darwin)

package session

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/auditrail/auditrail/services/engine/chdb"
	"github.com/auditrail/auditrail/services/engine/sqltext"
)

// A kill is repeated, at first after killInterval: a query that has not reached
// the engine's process list yet is missed by the first one. Each kill looks through
// that list, so that one which does not help becomes rare, and ends after killTime.
const (
	killInterval    = 20 * time.Millisecond
	killIntervalMax = time.Second
	killTime        = time.Minute
)

// Session is one session of the engine. It is owned by one goroutine, but for
// Kill, which another calls while the owner is in the engine.
type Session struct {
	conn    *chdb.Conn
	manager *Manager
	tag     string            // begins log_comment, and ends queries; names the session in the process list
	applied map[string]string // settings in force beside the defaults
}

// logComment carries the tag, because the library does not let a query's id be set.
const logComment = "log_comment"

func (s *Session) init(database string) error {
	if err := s.conn.Exec("SET " + logComment + "=" + sqltext.Quote(s.tag) + ", " + defaults); err != nil {
		return err
	}
	if database == "" || database == "default" {
		return nil
	}
	return s.conn.Exec("USE " + sqltext.QuoteName(database))
}

// Tagged is the statement with the session's tag as a comment behind it: a query
// that sets a log_comment of its own is found by that, to be killed. The statement
// must not end with data.
func (s *Session) Tagged(statement string) string { return statement + "\n" + tagComment(s.tag) }

// Command is the text to run for a statement: tagged, unless it ends with data.
func (s *Session) Command(query string, st sqltext.Statement) string {
	if st.Inline || st.Kind == sqltext.KindInsert {
		return query
	}
	return s.Tagged(st.Text)
}

// Retag puts the tag back in front of the log_comment, after a client's own SET.
func (s *Session) Retag() error {
	row, err := s.conn.Row("SELECT getSetting('" + logComment + "') AS c, startsWith(c, " + sqltext.Quote(s.tag) + "), hex(c)")
	if err != nil {
		return err
	}
	if row[len(row)-2] == "1" {
		return nil
	}
	value, err := hex.DecodeString(row[len(row)-1])
	if err != nil {
		return err
	}
	return s.conn.Exec("SET " + logComment + "=" + sqltext.Quote(s.tag+" "+string(value)))
}

// Conn runs statements in the session.
func (s *Session) Conn() *chdb.Conn { return s.conn }

// Close ends the session.
func (s *Session) Close() { s.conn.Close() }

// Setting is a setting that came with a query.
type Setting struct {
	Name, Value string
	// Important: an unknown setting is an error, not ignored.
	Important bool
}

// Apply makes the given settings hold, and only them: what an earlier query
// brought goes back to its default.
func (s *Session) Apply(settings []Setting) error {
	want := make(map[string]string, len(settings))
	for _, x := range settings {
		if !s.manager.settings[x.Name] {
			if x.Important {
				return chdb.Errorf(chdb.CodeUnknownSetting, "UNKNOWN_SETTING", "Unknown setting '%s'.", x.Name)
			}
			continue
		}
		want[x.Name] = x.Value
	}
	var set []string
	for name, value := range want {
		if old, ok := s.applied[name]; ok && old == value {
			continue
		}
		if name == logComment {
			value = s.tag + " " + value
		}
		set = append(set, name+"="+sqltext.Quote(value))
	}
	for name := range s.applied {
		if _, ok := want[name]; ok {
			continue
		}
		if name == logComment {
			set = append(set, name+"="+sqltext.Quote(s.tag))
		} else {
			set = append(set, name+"=DEFAULT")
		}
	}
	if len(set) == 0 {
		return nil
	}
	slices.Sort(set)
	if err := s.conn.Exec("SET " + strings.Join(set, ", ")); err != nil {
		s.forget(want)
		return err
	}
	s.applied = want
	return nil
}

// forget notes that a SET failed half-way: everything it named is unknown now
// and is set or reset by the next Apply.
func (s *Session) forget(want map[string]string) {
	for name := range maps.Keys(want) {
		s.applied[name] = "\x00" // no value that a client sends
	}
}

// Kill stops what runs in the session, and keeps at it until done is closed, or
// until it gives up with an error. The caller closes done once the engine has
// returned, and starts nothing new in the session before Kill has returned.
func (s *Session) Kill(done <-chan struct{}) error {
	return repeat(done, func() error { return s.manager.kill(s.tag) })
}

// repeat calls kill until done is closed, ever more seldom, for killTime at most.
func repeat(done <-chan struct{}, kill func() error) error {
	end := time.Now().Add(killTime)
	for wait := killInterval; time.Now().Before(end); wait = min(2*wait, killIntervalMax) {
		if err := kill(); err != nil {
			return err
		}
		select {
		case <-done:
			return nil
		case <-time.After(wait):
		}
	}
	return fmt.Errorf("the query goes on %v after its kill; gave up", killTime)
}
