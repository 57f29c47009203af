// Package counterstest holds implementations of apicall.Counters to what that
// interface promises.
//
//	func TestCounters(t *testing.T) {
//		counterstest.Exercise(t, counterstest.Backend{
//			Open: func(t *testing.T) []apicall.Counters { return []apicall.Counters{apicall.NewMemory()} },
//			Fake: true,
//		})
//	}
package counterstest

import (
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/auditrail/auditrail/pkg/apicall"
)

// Backend is how to get counters, and what is special about them.
type Backend struct {
	// Open returns counters that count together, as replicas of a module do: one
	// or more, none of which has seen a call. Each test opens its own, at the
	// same time as others unless Fake, and closes them.
	Open func(t *testing.T) []apicall.Counters

	// Fake runs each test in a bubble of testing/synctest: for counters whose
	// time is that of package time, and that wait for no network. Their waits
	// then take no time, and are exact.
	Fake bool

	// Window is how long the tests' windows are: the longer, the more a slow
	// machine may dawdle. Zero means an hour if Fake, else two seconds.
	Window time.Duration

	// Lease is for how long a place of these counters holds that is not renewed.
	// Zero means apicall.LeaseTimeout. Where waiting takes time, open counters
	// with a shorter one.
	Lease time.Duration
}

// Exercise runs all tests against counters.
func Exercise(t *testing.T, b Backend) {
	t.Helper()
	if b.Window == 0 {
		b.Window = 2 * time.Second
		if b.Fake {
			b.Window = time.Hour
		}
	}
	if b.Lease == 0 {
		b.Lease = apicall.LeaseTimeout
	}
	for _, test := range []struct {
		name string
		run  func(*suite)
	}{
		{"SoManyInAnyWindow", (*suite).soManyInAnyWindow},
		{"SoManyAtATime", (*suite).soManyAtATime},
		{"ConcurrencyIsDecidedFirst", (*suite).concurrencyFirst},
		{"BlockedCallsDoNotCount", (*suite).blockedCallsDoNotCount},
		{"ReleaseIsIdempotent", (*suite).releaseIsIdempotent},
		{"AskingAgainCountsOnce", (*suite).askingAgainCountsOnce},
		{"LeasesEndAndAreRenewed", (*suite).leases},
		{"RenewMakesNoPlace", (*suite).renewMakesNoPlace},
		{"LimitsChange", (*suite).limitsChange},
		{"WindowsChange", (*suite).windowsChange},
		{"UnplacedCalls", (*suite).unplacedCalls},
		{"WhatDoesNotBound", (*suite).whatDoesNotBound},
		{"KeysAreIndependent", (*suite).keysAreIndependent},
		{"UsageAgreesWithTake", (*suite).usageAgreesWithTake},
		{"WaitIsRight", (*suite).waitIsRight},
	} {
		t.Run(test.name, func(t *testing.T) {
			run := func(t *testing.T) {
				s := &suite{T: t, Backend: b, replicas: b.Open(t)}
				defer func() {
					for _, c := range s.replicas {
						if err := c.Close(); err != nil {
							t.Errorf("close: %v", err)
						}
					}
				}()
				test.run(s)
			}
			if b.Fake {
				synctest.Test(t, run)
				return
			}
			t.Parallel()
			run(t)
		})
	}
}

// suite is one test in progress.
type suite struct {
	*testing.T
	Backend
	replicas []apicall.Counters
	calls    atomic.Int64 // named so far
	asked    atomic.Int64 // questions so far
}

var aKey = apicall.Key{CustomerUUID: "1263b8de-7a2b-4442-a62a-7e3ea8cd6b49", API: "api/v1/jobs/{id}"}

// any returns one of the replicas, each in turn: it must not matter which.
func (s *suite) any() apicall.Counters {
	return s.replicas[s.asked.Add(1)%int64(len(s.replicas))]
}

// newID names a call.
func (s *suite) newID() string { return "call-" + strconv.FormatInt(s.calls.Add(1), 10) }

func (s *suite) take(ask apicall.Ask) apicall.Decision {
	s.Helper()
	d, err := s.any().Take(s.Context(), ask)
	if err != nil {
		s.Fatalf("take: %v", err)
	}
	return d
}

// admit takes a call that must be admitted, and returns its id.
func (s *suite) admit(key apicall.Key, limit apicall.Limit) string {
	s.Helper()
	id := s.newID()
	if d := s.take(apicall.Ask{Key: key, CallID: id, Limit: limit}); d.Blocked != apicall.BlockedNot {
		s.Fatalf("blocked, want admitted: %+v", d)
	}
	return id
}

// blocked takes a call that must be blocked.
func (s *suite) blocked(key apicall.Key, limit apicall.Limit, by apicall.Blocked) apicall.Decision {
	s.Helper()
	d := s.take(apicall.Ask{Key: key, CallID: s.newID(), Limit: limit})
	if d.Blocked != by {
		s.Fatalf("decision %+v, want Blocked %d", d, by)
	}
	return d
}

func (s *suite) release(key apicall.Key, id string) {
	s.Helper()
	if err := s.any().Release(s.Context(), key, id); err != nil {
		s.Fatalf("release: %v", err)
	}
}

func (s *suite) renew(places ...apicall.Place) {
	s.Helper()
	if err := s.any().Renew(s.Context(), places); err != nil {
		s.Fatalf("renew: %v", err)
	}
}

func (s *suite) usage(key apicall.Key, limit apicall.Limit) apicall.Usage {
	s.Helper()
	u, err := s.any().Usage(s.Context(), key, limit)
	if err != nil {
		s.Fatalf("usage: %v", err)
	}
	return u
}

// used checks how much of a limit is used, but for the wait.
func (s *suite) used(key apicall.Key, limit apicall.Limit, running, calls int) {
	s.Helper()
	if u := s.usage(key, limit); u.Running != running || u.Calls != calls {
		s.Fatalf("usage %+v, want %d running and %d calls", u, running, calls)
	}
}

// pause lets d pass.
func (s *suite) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.Context().Done():
	}
}
