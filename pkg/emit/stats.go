package emit

import "sync/atomic"

// Stats count events and API calls since New. Emitted = Delivered + Failed + BufferedEvents,
// but for those that move while the counters are read.
type Stats struct {
	Emitted        int64 // accepted by Emit or EmitCall
	Delivered      int64 // acknowledged by the brokers
	Failed         int64 // accepted, then given up; OnError or OnCallError was told
	Invalid        int64 // refused: broke a rule or were too long
	BufferFull     int64 // refused: too much was waiting
	BufferedEvents int64 // waiting now
	BufferedBytes  int64 // memory of those, as MaxBufferedBytes counts it
}

type counters struct {
	emitted, delivered, failed, invalid, bufferFull, bufferedEvents, bufferedBytes atomic.Int64

	reporting atomic.Int64 // failed events that OnError is being told of
}

// Stats returns the counters. Safe for concurrent use and cheap.
func (em *Emitter) Stats() Stats {
	c := &em.count
	return Stats{
		Emitted:        c.emitted.Load(),
		Delivered:      c.delivered.Load(),
		Failed:         c.failed.Load(),
		Invalid:        c.invalid.Load(),
		BufferFull:     c.bufferFull.Load(),
		BufferedEvents: c.bufferedEvents.Load(),
		BufferedBytes:  c.bufferedBytes.Load(),
	}
}
