package sqlgen

import (
	"time"

	"github.com/auditrail/auditrail/services/internal/qql"
	"github.com/auditrail/auditrail/services/internal/sqlgen/param"
)

// where compiles a condition.
func where(x qql.Expr, now time.Time, params param.Set) string {
	panic("not built yet")
}
