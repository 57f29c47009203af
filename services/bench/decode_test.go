package main

import (
	"testing"

	"github.com/segmentio/encoding/json"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/bench/limit"
	"github.com/auditrail/auditrail/services/bench/measure"
)

// plainEvent is an Event without its methods, for decoders that use reflection.
type plainEvent audit.Event

// BenchmarkDecode turns the bytes of a record into an event. Ours also
// validates it.
func BenchmarkDecode(b *testing.B) {
	at := measure.Now()
	decoders := []struct {
		name   string
		decode func(p []byte, e *audit.Event) error
	}{
		{"ours", func(p []byte, e *audit.Event) error {
			if err := audit.Decode(p, e); err != nil {
				return err
			}
			return e.Validate(at, 0)
		}},
		{"segmentio", func(p []byte, e *audit.Event) error {
			*e = audit.Event{}
			_, err := json.Parse(p, (*plainEvent)(e), json.ZeroCopy|json.DontMatchCaseInsensitiveStructFields)
			return err
		}},
		{"limit", func(p []byte, e *audit.Event) error {
			*e = audit.Event{}
			return limit.Decode(p, e)
		}},
	}
	for _, w := range measure.Workloads {
		lines := measure.Lines(b, w.Full, measure.Size())
		for _, d := range decoders {
			b.Run(w.Name+"/"+d.name, func(b *testing.B) {
				var e audit.Event
				measure.Process(b, len(lines), func() {
					for _, line := range lines {
						if err := d.decode(line, &e); err != nil {
							b.Fatal(err)
						}
					}
				})
			})
		}
	}
}
