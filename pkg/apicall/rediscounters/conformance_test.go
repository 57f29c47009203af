package rediscounters_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/pkg/apicall/counterstest"
	"github.com/auditrail/auditrail/pkg/apicall/rediscounters"
	"github.com/auditrail/auditrail/pkg/apicall/rediscounters/redistest"
)

// TestCounters has three replicas, of which each test takes any for any call.
func TestCounters(t *testing.T) {
	server := redistest.Start(t, "--databases", "100")
	const lease = 2 * time.Second
	var databases atomic.Int32 // one a test
	counterstest.Exercise(t, counterstest.Backend{
		Lease: lease,
		Open: func(t *testing.T) []apicall.Counters {
			url := fmt.Sprintf("%s/%d", server.URL(), databases.Add(1))
			replicas := make([]apicall.Counters, 3)
			for i := range replicas {
				replicas[i] = open(t, rediscounters.Config{URL: url, LeaseTimeout: lease})
			}
			return replicas
		},
	})
}
