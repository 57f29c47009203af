package apicall_test

import (
	"testing"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/pkg/apicall/counterstest"
)

func TestMemory(t *testing.T) {
	counterstest.Exercise(t, counterstest.Backend{
		Open: func(*testing.T) []apicall.Counters { return []apicall.Counters{apicall.NewMemory()} },
		Fake: true,
	})
}
