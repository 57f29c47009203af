// Package bytesize reads and prints amounts of memory, for flags.
package bytesize

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Bytes is an amount of memory. As text it is a whole number and a unit: B
// (or none), KiB, MiB, GiB, TiB, or kB, MB, GB, TB.
type Bytes int64

// units of Bytes, the largest first, so that printing finds the shortest form.
var units = []struct {
	name string
	size int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1},
}

// UnmarshalText implements encoding.TextUnmarshaler; units in any case.
func (b *Bytes) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	digits := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
	unit := strings.TrimSpace(s[len(digits):])
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is not an amount of memory such as 512MiB", s)
	}
	if unit == "" {
		unit = "B"
	}
	for _, u := range units {
		if !strings.EqualFold(u.name, unit) {
			continue
		}
		if n > math.MaxInt64/u.size {
			return fmt.Errorf("%q is too much", s)
		}
		*b = Bytes(n * u.size)
		return nil
	}
	return fmt.Errorf("%q: unknown unit %q; use MiB or GiB", s, unit)
}

// String prints the amount in the largest unit that divides it.
func (b Bytes) String() string {
	for _, u := range units[:4] {
		if b != 0 && int64(b)%u.size == 0 {
			return strconv.FormatInt(int64(b)/u.size, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10) + "B"
}
