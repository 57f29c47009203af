package qql

import (
	"time"

	"github.com/auditrail/auditrail/pkg/audit"
)

// Compile makes a function that decides whether x holds for an event. It is
// safe for concurrent use. Relative dates count from now.
func Compile(x Expr, now time.Time) func(*audit.Event) bool { panic("not built yet") }
