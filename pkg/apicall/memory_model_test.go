package apicall

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model counts calls of one key as the interface says it, and slowly.
type model struct {
	begun  []time.Duration
	places map[string]time.Duration // end of lease
}

func (m *model) usage(limit Limit, now time.Duration) Usage {
	var u Usage
	for _, ends := range m.places {
		if ends > now {
			u.Running++
		}
	}
	if limit.Calls == 0 {
		return u
	}
	for _, at := range m.begun {
		if at+limit.Window > now {
			u.Calls++
		}
	}
	// The wait is the shortest after which fewer than Calls are in the window.
	for _, at := range m.begun {
		wait, left := at+limit.Window-now, 0
		for _, other := range m.begun {
			if other+limit.Window > now+max(0, wait) {
				left++
			}
		}
		if left < limit.Calls && u.Calls >= limit.Calls {
			u.Wait = max(0, wait)
			break
		}
	}
	return u
}

func (m *model) take(ask Ask, now time.Duration) Decision {
	u := m.usage(ask.Limit, now)
	placed := !ask.Unplaced
	switch {
	case placed && m.places[ask.CallID] > now:
		return Decision{Usage: u}
	case placed && ask.Limit.Concurrency > 0 && u.Running >= ask.Limit.Concurrency:
		return Decision{BlockedConcurrency, u}
	case ask.Limit.Calls > 0 && u.Calls >= ask.Limit.Calls:
		return Decision{BlockedRate, u}
	}
	if placed {
		m.places[ask.CallID] = now + LeaseTimeout
	}
	if ask.Limit.Calls > 0 {
		m.begun = append(m.begun, now)
	}
	return Decision{Usage: m.usage(ask.Limit, now)}
}

// TestMemoryDoesWhatTheModelDoes, whatever is asked, in whatever order. The
// window is the same throughout: the interface lets what left a shorter one be
// forgotten.
func TestMemoryDoesWhatTheModelDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		now := time.Duration(0)
		memory := newMemory(func() time.Duration { return now })
		keys := []Key{{"a", "x"}, {"a", "y"}, {"b", "x"}}
		models := map[Key]*model{}
		for _, key := range keys {
			models[key] = &model{places: map[string]time.Duration{}}
		}
		window := rapid.SampledFrom([]time.Duration{time.Second, 20 * time.Second, time.Minute}).Draw(t, "window")
		key := rapid.SampledFrom(keys)
		call := rapid.SampledFrom([]string{"1", "2", "3", "4", "5", "6", "7", "8"})
		limit := rapid.Custom(func(t *rapid.T) Limit {
			l := Limit{Concurrency: rapid.IntRange(0, 4).Draw(t, "concurrency"), Calls: rapid.IntRange(0, 9).Draw(t, "calls")}
			if l.Calls > 0 {
				l.Window = window
			}
			return l
		})
		t.Repeat(map[string]func(*rapid.T){
			"take": func(t *rapid.T) {
				ask := Ask{Key: key.Draw(t, "key"), CallID: call.Draw(t, "call"), Limit: limit.Draw(t, "limit"), Unplaced: rapid.Bool().Draw(t, "unplaced")}
				got, err := memory.Take(ctx, ask)
				if want := models[ask.Key].take(ask, now); err != nil || got != want {
					t.Fatalf("at %s, take %+v:\n got %+v, %v\nwant %+v", now, ask, got, err, want)
				}
			},
			"release": func(t *rapid.T) {
				k, id := key.Draw(t, "key"), call.Draw(t, "call")
				if err := memory.Release(ctx, k, id); err != nil {
					t.Fatal(err)
				}
				delete(models[k].places, id)
			},
			"renew": func(t *rapid.T) {
				k, id := key.Draw(t, "key"), call.Draw(t, "call")
				if err := memory.Renew(ctx, []Place{{k, id}}); err != nil {
					t.Fatal(err)
				}
				if models[k].places[id] > now {
					models[k].places[id] = now + LeaseTimeout
				}
			},
			"usage": func(t *rapid.T) {
				k, l := key.Draw(t, "key"), limit.Draw(t, "limit")
				got, err := memory.Usage(ctx, k, l)
				if want := models[k].usage(l, now); err != nil || got != want {
					t.Fatalf("at %s, usage under %+v:\n got %+v, %v\nwant %+v", now, l, got, err, want)
				}
			},
			"time passes": func(t *rapid.T) {
				now += time.Duration(rapid.Int64Range(0, int64(window)).Draw(t, "passes"))
			},
			"a little time passes": func(t *rapid.T) {
				now += time.Duration(rapid.Int64Range(0, int64(window)/8).Draw(t, "passes"))
			},
		})
	})
}

// TestIdleKeysAreDropped: many subscriptions that call once do not stay.
func TestIdleKeysAreDropped(t *testing.T) {
	now := time.Duration(0)
	memory := newMemory(func() time.Duration { return now })
	limit := Limit{Concurrency: 2, Calls: 5, Window: time.Minute}
	live := Key{"always", "here"}
	const keys, second = 60_000, 300 // keys a second
	for i := range keys {
		key := Key{fmt.Sprint("c", i), "x"}
		for _, k := range []Key{key, live} {
			if _, err := memory.Take(t.Context(), Ask{Key: k, CallID: "1", Limit: limit}); err != nil {
				t.Fatal(err)
			}
			if err := memory.Release(t.Context(), k, "1"); err != nil {
				t.Fatal(err)
			}
		}
		now += time.Second / second
	}
	held, inWindow := 0, 60*second
	for i := range memory.shards {
		s := &memory.shards[i]
		held += len(s.all)
		if len(s.keys) != len(s.all) {
			t.Fatalf("%d keys and %d tallies", len(s.keys), len(s.all))
		}
		for _, tally := range s.all {
			if s.keys[tally.key] != tally {
				t.Fatalf("%v is not where it is looked for", tally.key)
			}
		}
	}
	if held < inWindow || held > 3*inWindow {
		t.Errorf("%d keys are held, want about the %d of the window", held, inWindow)
	}
	if u, err := memory.Usage(t.Context(), live, limit); err != nil || u.Calls != limit.Calls {
		t.Errorf("usage of the key that is in use: %+v, %v", u, err)
	}
	now += time.Hour
	for i := range keys { // other calls come in, and sweep
		if _, err := memory.Take(t.Context(), Ask{Key: Key{fmt.Sprint("d", i%2000), "x"}, CallID: "1", Limit: limit, Unplaced: true}); err != nil {
			t.Fatal(err)
		}
	}
	held = 0
	for i := range memory.shards {
		held += len(memory.shards[i].all)
	}
	if held > 4000 {
		t.Errorf("%d keys are held after an idle hour, want about 2000", held)
	}
}

// TestRingKeepsTheOrder over its end and as it grows.
func TestRingKeepsTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r ring
		var want []time.Duration
		at := time.Duration(0)
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				at += time.Duration(rapid.IntRange(0, 3).Draw(t, "after"))
				r.push(at)
				want = append(want, at)
			},
			"drop": func(t *rapid.T) {
				until := at - time.Duration(rapid.IntRange(0, 20).Draw(t, "before"))
				r.dropUntil(until)
				want = slices.DeleteFunc(want, func(d time.Duration) bool { return d <= until })
			},
			"": func(t *rapid.T) {
				if r.len() != len(want) {
					t.Fatalf("%d times, want %d", r.len(), len(want))
				}
				for i, w := range want {
					if r.at(i) != w || r.until(w) != len(want)-len(slices.DeleteFunc(slices.Clone(want), func(d time.Duration) bool { return d <= w })) {
						t.Fatalf("at %d: %d and %d up to it, want %d", i, r.at(i), r.until(w), w)
					}
				}
			},
		})
	})
}
