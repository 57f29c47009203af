package apicall

import "sync/atomic"

// Stats count calls since New, for the module's metrics.
type Stats struct {
	Finished           int64 // ran and ended
	BlockedConcurrency int64
	BlockedRate        int64
	Refused            int64 // answered 503, because counters were away and Config.FailClosed
	GaveUp             int64 // the client hung up while its call waited
	Unenforced         int64 // ran without a limit, because counters were away
	CountersErrors     int64 // questions that the counters did not answer
	EmitFailures       int64 // records that the sink refused
	UnknownTiers       int64 // calls of a tier that is not known, which counted as Standard
	Running            int64 // running now
	Waiting            int64 // waiting for a place now
}

type tallies struct {
	finished, blockedConcurrency, blockedRate, refused, gaveUp, unenforced,
	countersErrors, emitFailures, unknownTiers, running, waiting atomic.Int64
}

// Stats returns the counters. Safe for concurrent use and cheap.
func (c *Calls) Stats() Stats {
	n := &c.count
	return Stats{
		Finished:           n.finished.Load(),
		BlockedConcurrency: n.blockedConcurrency.Load(),
		BlockedRate:        n.blockedRate.Load(),
		Refused:            n.refused.Load(),
		GaveUp:             n.gaveUp.Load(),
		Unenforced:         n.unenforced.Load(),
		CountersErrors:     n.countersErrors.Load(),
		EmitFailures:       n.emitFailures.Load(),
		UnknownTiers:       n.unknownTiers.Load(),
		Running:            n.running.Load(),
		Waiting:            n.waiting.Load(),
	}
}
