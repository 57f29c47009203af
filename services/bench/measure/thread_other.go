//go:build !linux

package measure

import "time"

var began = time.Now()

// threadCPU is the time that passed: only Linux accounts for threads.
func threadCPU() time.Duration { return time.Since(began) }
