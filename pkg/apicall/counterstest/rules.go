package counterstest

import (
	"strings"
	"time"

	"github.com/auditrail/auditrail/pkg/apicall"
)

func (s *suite) concurrencyFirst() {
	limit := apicall.Limit{Concurrency: 2, Calls: 2, Window: s.Window}
	first := s.admit(aKey, limit)
	s.admit(aKey, limit)
	if d := s.blocked(aKey, limit, apicall.BlockedConcurrency); d.Running != 2 || d.Calls != 2 || d.Wait <= 0 {
		s.Fatalf("decision %+v, want 2 running, 2 calls and a wait", d)
	}
	s.release(aKey, first)
	s.blocked(aKey, limit, apicall.BlockedRate)
}

func (s *suite) blockedCallsDoNotCount() {
	limit := apicall.Limit{Concurrency: 1, Calls: 3, Window: s.Window}
	began := time.Now()
	for range limit.Calls {
		id := s.admit(aKey, limit)
		for range 5 {
			s.blocked(aKey, limit, apicall.BlockedConcurrency)
		}
		s.release(aKey, id)
	}
	s.used(aKey, limit, 0, limit.Calls)
	s.pause(s.Window / 2)
	for range 20 {
		s.blocked(aKey, limit, apicall.BlockedRate)
	}
	s.used(aKey, limit, 0, limit.Calls)
	s.pause(time.Until(began.Add(s.Window + s.slack())))
	// Were the blocked ones counted, half a window of them would be left.
	for range limit.Calls {
		s.release(aKey, s.admit(aKey, limit))
	}
	s.blocked(aKey, limit, apicall.BlockedRate)
}

func (s *suite) releaseIsIdempotent() {
	limit := apicall.Limit{Concurrency: 2}
	s.release(aKey, "nobody")
	first := s.admit(aKey, limit)
	s.admit(aKey, limit)
	s.release(aKey, "nobody")
	s.release(apicall.Key{CustomerUUID: "other", API: aKey.API}, first)
	s.blocked(aKey, limit, apicall.BlockedConcurrency)
	s.release(aKey, first)
	s.release(aKey, first)
	s.used(aKey, limit, 1, 0)
	s.admit(aKey, limit)
	s.release(aKey, first)
	s.blocked(aKey, limit, apicall.BlockedConcurrency)
}

func (s *suite) askingAgainCountsOnce() {
	limit := apicall.Limit{Concurrency: 1, Calls: 2, Window: s.Window}
	id := s.admit(aKey, limit)
	for range 3 {
		if d := s.take(apicall.Ask{Key: aKey, CallID: id, Limit: limit}); d.Blocked != apicall.BlockedNot || d.Running != 1 || d.Calls != 1 {
			s.Fatalf("asked again: %+v, want admitted, 1 running and 1 call", d)
		}
	}
	s.release(aKey, id)
	s.used(aKey, limit, 0, 1)
}

func (s *suite) leases() {
	limit := apicall.Limit{Concurrency: 3}
	dead, alive, last := s.admit(aKey, limit), s.admit(aKey, limit), s.admit(aKey, limit)
	s.pause(s.Lease / 2)
	s.renew(apicall.Place{Key: aKey, CallID: alive}, apicall.Place{Key: aKey, CallID: last})
	s.used(aKey, limit, 3, 0)
	s.pause(s.Lease/2 + s.slack())
	s.used(aKey, limit, 2, 0)
	s.renew(apicall.Place{Key: aKey, CallID: last})
	s.admit(aKey, limit)
	s.blocked(aKey, limit, apicall.BlockedConcurrency)
	s.release(aKey, dead) // it comes late, and its place is another's
	s.blocked(aKey, limit, apicall.BlockedConcurrency)
	s.pause(s.Lease / 2)
	s.used(aKey, limit, 2, 0)
	s.pause(s.Lease/2 + s.slack())
	s.used(aKey, limit, 0, 0)
}

func (s *suite) renewMakesNoPlace() {
	limit := apicall.Limit{Concurrency: 2}
	s.renew()
	s.renew(apicall.Place{Key: aKey, CallID: "nobody"})
	s.used(aKey, limit, 0, 0)
	ended, silent := s.admit(aKey, limit), s.admit(aKey, limit)
	s.release(aKey, ended)
	s.renew(apicall.Place{Key: aKey, CallID: ended})
	s.used(aKey, limit, 1, 0)
	s.pause(s.Lease + s.slack())
	s.admit(aKey, limit)
	s.admit(aKey, limit)
	s.renew(apicall.Place{Key: aKey, CallID: silent})
	s.used(aKey, limit, 2, 0)
}

func (s *suite) limitsChange() {
	wide := apicall.Limit{Concurrency: 4, Calls: 6, Window: s.Window}
	narrow := apicall.Limit{Concurrency: 2, Calls: 3, Window: s.Window}
	var ids []string
	for range 4 {
		ids = append(ids, s.admit(aKey, wide))
	}
	s.blocked(aKey, narrow, apicall.BlockedConcurrency)
	s.release(aKey, ids[0])
	s.release(aKey, ids[1])
	s.blocked(aKey, narrow, apicall.BlockedConcurrency)
	s.release(aKey, ids[2])
	d := s.blocked(aKey, narrow, apicall.BlockedRate)
	if d.Calls != 4 || d.Running != 1 {
		s.Fatalf("decision %+v, want the 4 calls and 1 running of the wider limit", d)
	}
	s.release(aKey, s.admit(aKey, wide))
	s.release(aKey, s.admit(aKey, wide))
	s.blocked(aKey, wide, apicall.BlockedRate)
	wide.Calls = 7
	s.admit(aKey, wide)
	s.blocked(aKey, wide, apicall.BlockedRate)
}

func (s *suite) windowsChange() {
	long := apicall.Limit{Calls: 2, Window: s.Window}
	short := apicall.Limit{Calls: 2, Window: s.Window / 4}
	s.release(aKey, s.admit(aKey, long))
	s.release(aKey, s.admit(aKey, long))
	s.blocked(aKey, long, apicall.BlockedRate)
	s.pause(short.Window + s.slack())
	s.used(aKey, short, 0, 0)
	s.used(aKey, long, 0, 2)
	s.admit(aKey, short)
	s.admit(aKey, short)
	s.blocked(aKey, short, apicall.BlockedRate)
	s.blocked(aKey, long, apicall.BlockedRate)
}

func (s *suite) unplacedCalls() {
	limit := apicall.Limit{Concurrency: 1, Calls: 4, Window: s.Window}
	placed := s.admit(aKey, limit)
	for range 2 {
		id := s.newID()
		if d := s.take(apicall.Ask{Key: aKey, CallID: id, Limit: limit, Unplaced: true}); d.Blocked != apicall.BlockedNot || d.Running != 1 {
			s.Fatalf("unplaced call: %+v, want admitted, with 1 running", d)
		}
		s.release(aKey, id)
	}
	s.used(aKey, limit, 1, 3)
	s.release(aKey, placed)
	if d := s.take(apicall.Ask{Key: aKey, CallID: s.newID(), Limit: limit, Unplaced: true}); d.Blocked != apicall.BlockedNot || d.Calls != 4 {
		s.Fatalf("unplaced call: %+v, want admitted as the 4th", d)
	}
	if d := s.take(apicall.Ask{Key: aKey, CallID: s.newID(), Limit: limit, Unplaced: true}); d.Blocked != apicall.BlockedRate {
		s.Fatalf("unplaced call: %+v, want blocked by rate", d)
	}
}

func (s *suite) whatDoesNotBound() {
	for range 100 {
		s.admit(aKey, apicall.Limit{})
	}
	s.used(aKey, apicall.Limit{}, 100, 0)
	limit := apicall.Limit{Concurrency: 100, Calls: 1, Window: s.Window}
	s.blocked(aKey, limit, apicall.BlockedConcurrency) // the places are known, though nothing bounded them
	limit.Concurrency = 0
	s.admit(aKey, limit)
	s.blocked(aKey, limit, apicall.BlockedRate)
	s.used(aKey, limit, 101, 1)
}

func (s *suite) keysAreIndependent() {
	limit := apicall.Limit{Concurrency: 1, Calls: 1, Window: s.Window}
	keys := []apicall.Key{
		{CustomerUUID: "a", API: "b"}, {CustomerUUID: "b", API: "a"},
		{CustomerUUID: "a:b", API: "c"}, {CustomerUUID: "a", API: "b:c"},
		{CustomerUUID: "a/b", API: "c"}, {CustomerUUID: "a", API: "b/c"},
		{CustomerUUID: "a\x00b", API: "c"}, {CustomerUUID: "a", API: "b\x00c"},
		{CustomerUUID: "{a}", API: "b"}, {CustomerUUID: "a", API: "{b}"}, {CustomerUUID: "a}", API: "b{"}, {CustomerUUID: "{", API: "}"},
		{CustomerUUID: "a", API: "b "}, {CustomerUUID: "a ", API: "b"}, {CustomerUUID: "A", API: "b"},
		{CustomerUUID: "a", API: "b\n"}, {CustomerUUID: "a", API: "*"}, {CustomerUUID: "a", API: "b:running"}, {CustomerUUID: "a", API: "b:calls"},
		{CustomerUUID: "é", API: "日本"}, {CustomerUUID: "e\u0301", API: "日本"}, {CustomerUUID: "\xff", API: "\xfe"},
		{CustomerUUID: strings.Repeat("c", 64), API: strings.Repeat("a", 256)},
		{CustomerUUID: strings.Repeat("c", 64), API: strings.Repeat("a", 255) + "b"},
	}
	const id = "the-same-call-id"
	for _, key := range keys {
		if d := s.take(apicall.Ask{Key: key, CallID: id, Limit: limit}); d.Blocked != apicall.BlockedNot || d.Running != 1 || d.Calls != 1 {
			s.Fatalf("first call of %q: %+v", key, d)
		}
	}
	for i, key := range keys {
		s.blocked(key, limit, apicall.BlockedConcurrency)
		s.release(key, id)
		s.used(key, limit, 0, 1)
		if i+1 < len(keys) {
			s.used(keys[i+1], limit, 1, 1)
		}
	}
}

func (s *suite) usageAgreesWithTake() {
	limit := apicall.Limit{Concurrency: 3, Calls: 5, Window: s.Window}
	s.used(aKey, limit, 0, 0)
	var ids []string
	for i := range 8 {
		id := s.newID()
		d := s.take(apicall.Ask{Key: aKey, CallID: id, Limit: limit})
		u := s.usage(aKey, limit)
		if d.Running != u.Running || d.Calls != u.Calls || d.Wait-u.Wait > s.slack() || u.Wait > d.Wait {
			s.Fatalf("call %d: Take says %+v, Usage %+v", i, d.Usage, u)
		}
		if (u.Wait > 0) != (u.Calls >= limit.Calls) {
			s.Fatalf("call %d: a wait of %s with %d of %d calls", i, u.Wait, u.Calls, limit.Calls)
		}
		if d.Blocked == apicall.BlockedNot {
			ids = append(ids, id)
		}
		if len(ids) == 3 {
			s.release(aKey, ids[0])
			ids = ids[1:]
		}
	}
	s.used(aKey, limit, 2, 5)
}

func (s *suite) waitIsRight() {
	limit := apicall.Limit{Calls: 2, Window: s.Window}
	s.admit(aKey, limit)
	s.pause(s.Window / 2)
	s.admit(aKey, limit)
	d := s.blocked(aKey, limit, apicall.BlockedRate)
	if d.Wait > s.Window/2 || d.Wait < s.Window/2-2*s.slack() {
		s.Fatalf("wait %s, want about half of %s: until the first call leaves the window", d.Wait, s.Window)
	}
	asked := time.Now()
	s.pause(d.Wait - s.slack())
	if time.Since(asked) < d.Wait { // else this machine slept for too long
		if early := s.blocked(aKey, limit, apicall.BlockedRate); early.Wait <= 0 {
			s.Fatalf("blocked without a wait: %+v", early)
		}
	}
	s.pause(time.Until(asked.Add(d.Wait)))
	third := time.Now()
	s.admit(aKey, limit)
	// Of a limit that was lowered, more than one call has to leave.
	limit.Calls = 1
	d = s.blocked(aKey, limit, apicall.BlockedRate)
	if left := s.Window - time.Since(third); d.Wait < left {
		s.Fatalf("wait %s under a lowered limit, want %s at least", d.Wait, left)
	}
	s.pause(d.Wait)
	s.admit(aKey, limit)
}

// slack is what the machine may dawdle where time is real.
func (s *suite) slack() time.Duration {
	if s.Fake {
		return time.Millisecond
	}
	return s.Window / 10
}
