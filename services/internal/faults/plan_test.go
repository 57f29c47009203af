package faults

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

// plan is what happens in a campaign, and to whom. It is a function of the seed.
type plan struct {
	seed       uint64
	replicas   int           // of ingest
	batchRows  int           // --batch-rows
	flushAge   time.Duration // --flush-age
	perSecond  int           // records that the producer sends
	steps      []step        // by time
	eventsSeed uint64
}

// step is one fault. It begins at a time after the start and is over after
// lasts, if it lasts.
type step struct {
	at, lasts time.Duration
	fault     fault
	replica   int // of ingest, for faults that befall one
}

func (s step) String() string {
	text := string(s.fault)
	if s.befalls() == aReplica || s.befalls() == aReplicasEngine {
		text = fmt.Sprintf("%s, replica %d", text, s.replica)
	}
	if s.lasts > 0 {
		text = fmt.Sprintf("%s, for %s", text, s.lasts)
	}
	return text
}

// fault is what can happen.
type fault string

const (
	ingestKilled    fault = "ingest killed"
	ingestRestarted fault = "ingest restarted" // leaves the group, and joins
	ingestPaused    fault = "ingest paused"
	ingestZombie    fault = "ingest paused beyond its session"
	engineKilled    fault = "engine killed"
	enginePaused    fault = "engine paused"
	brokerKilled    fault = "broker killed"
	brokerPaused    fault = "broker paused"
	producerKilled  fault = "producer killed"
	engineReset     fault = "engine connections reset"
	kafkaReset      fault = "kafka connections reset"
	engineStalled   fault = "engine connections stalled"
	kafkaStalled    fault = "kafka connections stalled"
	engineCut       fault = "engine unreachable"
	kafkaCut        fault = "kafka unreachable"
	insertLost      fault = "insert lost"
	insertLanded    fault = "insert landed, reported lost"
	commitLost      fault = "commit lost"
	commitLanded    fault = "commit landed, reported lost"
	produceLost     fault = "produce lost"
	produceLanded   fault = "produce landed, reported lost"
	refusedParts    fault = "inserts refused: too many parts"
	refusedReadOnly fault = "inserts refused: read-only"
	refusedNoTable  fault = "inserts refused: no table"
	refusedNoMemory fault = "insert refused: memory limit"
	replicaJoins    fault = "one more ingest joins and leaves"
	noFault         fault = ""
	beginsAfter           = 300 * time.Millisecond
	beginsBefore          = 9 * time.Second
	afterwards            = time.Second // a target has rest after a step
	minSteps              = 16
	maxSteps              = 28
	maxReplicas           = 3
	minReplicas           = 2
	sessionTimeout        = 6 * time.Second // of ingest: the least that Kafka takes
)

// target is what a fault befalls. A target meets one fault at a time.
type target int

const (
	aReplica        target = iota
	aReplicasEngine        // the connections of a replica to the engine
	theEngine
	theTable
	theBroker
	theKafka // all connections to it
	theProducer
	theGroup
)

// faults are all there are: whom they befall, how often they are chosen, how
// long they last and how often they may be in one plan.
var faults = map[fault]struct {
	befalls  target
	weight   int
	from, to time.Duration
	most     int
}{
	ingestKilled:    {aReplica, 6, 100 * time.Millisecond, 3 * time.Second, 4},
	ingestRestarted: {aReplica, 4, 50 * time.Millisecond, 2 * time.Second, 3},
	ingestPaused:    {aReplica, 4, 200 * time.Millisecond, 4 * time.Second, 3},
	ingestZombie:    {aReplica, 3, sessionTimeout + 500*time.Millisecond, sessionTimeout + 3*time.Second, 1},
	engineKilled:    {theEngine, 6, 0, time.Second, 3},
	enginePaused:    {theEngine, 2, 200 * time.Millisecond, 4 * time.Second, 2},
	brokerKilled:    {theBroker, 5, 0, 2 * time.Second, 2},
	brokerPaused:    {theBroker, 2, 200 * time.Millisecond, 4 * time.Second, 2},
	producerKilled:  {theProducer, 3, 0, 0, 3},
	engineReset:     {aReplicasEngine, 3, 0, 0, 3},
	kafkaReset:      {theKafka, 3, 0, 0, 3},
	engineStalled:   {aReplicasEngine, 2, 200 * time.Millisecond, 4 * time.Second, 2},
	kafkaStalled:    {theKafka, 2, 200 * time.Millisecond, 4 * time.Second, 2},
	engineCut:       {aReplicasEngine, 2, 200 * time.Millisecond, 4 * time.Second, 2},
	kafkaCut:        {theKafka, 2, 200 * time.Millisecond, 3 * time.Second, 2},
	insertLost:      {aReplicasEngine, 3, 0, 0, 4},
	insertLanded:    {aReplicasEngine, 6, 0, 0, 6},
	commitLost:      {theKafka, 3, 0, 0, 4},
	commitLanded:    {theKafka, 4, 0, 0, 4},
	produceLost:     {theKafka, 2, 0, 0, 3},
	produceLanded:   {theKafka, 3, 0, 0, 3},
	refusedParts:    {theTable, 2, 500 * time.Millisecond, 4 * time.Second, 2},
	refusedReadOnly: {theTable, 2, 500 * time.Millisecond, 4 * time.Second, 2},
	refusedNoTable:  {theTable, 2, 500 * time.Millisecond, 3 * time.Second, 1},
	refusedNoMemory: {aReplicasEngine, 3, 0, 0, 4},
	replicaJoins:    {theGroup, 2, 2 * time.Second, 5 * time.Second, 1},
}

func (s step) befalls() target { return faults[s.fault].befalls }

// planOf is the plan of a seed.
func planOf(seed uint64) plan {
	r := rand.New(rand.NewPCG(seed, 0xfa017))
	p := plan{
		seed: seed, replicas: minReplicas + r.IntN(maxReplicas-minReplicas+1),
		batchRows: 50 << r.IntN(6), flushAge: time.Duration(10+r.IntN(200)) * time.Millisecond,
		perSecond: 200 + r.IntN(1000), eventsSeed: r.Uint64(),
	}
	type victim struct {
		target  target
		replica int
	}
	busy := map[victim][]step{}
	chosen := map[fault]int{}
	want := minSteps + r.IntN(maxSteps-minSteps+1)
	for range 10 * want { // a step that finds its target busy is not taken
		if len(p.steps) == want {
			break
		}
		s := step{fault: choose(r), at: between(r, beginsAfter, beginsBefore)}
		f := faults[s.fault]
		s.lasts = between(r, f.from, f.to)
		if f.befalls == aReplica || f.befalls == aReplicasEngine {
			s.replica = r.IntN(p.replicas)
		}
		v := victim{f.befalls, s.replica}
		meets := func(o step) bool { return s.at < o.at+o.lasts+afterwards && o.at < s.at+s.lasts+afterwards }
		if chosen[s.fault] == f.most || s.lasts > 0 && slices.ContainsFunc(busy[v], meets) {
			continue
		}
		chosen[s.fault]++
		if s.lasts > 0 || f.to > 0 {
			busy[v] = append(busy[v], s)
		}
		p.steps = append(p.steps, s)
	}
	slices.SortStableFunc(p.steps, func(a, b step) int { return cmp.Compare(a.at, b.at) })
	return p
}

func choose(r *rand.Rand) fault {
	names := make([]fault, 0, len(faults))
	total := 0
	for f, is := range faults {
		names = append(names, f)
		total += is.weight
	}
	slices.Sort(names)
	n := r.IntN(total)
	for _, f := range names {
		if n -= faults[f].weight; n < 0 {
			return f
		}
	}
	return noFault
}

// between is a time, to the millisecond.
func between(r *rand.Rand, from, to time.Duration) time.Duration {
	if to <= from {
		return from
	}
	return (from + time.Duration(r.Int64N(int64(to-from)))).Truncate(time.Millisecond)
}

func TestAPlanIsAFunctionOfItsSeed(t *testing.T) {
	seen := map[fault]bool{}
	for seed := range uint64(200) {
		p := planOf(seed)
		if again := planOf(seed); !reflect.DeepEqual(p, again) {
			t.Fatalf("seed %d has two plans:\n%+v\n%+v", seed, p, again)
		}
		if seed > 0 && reflect.DeepEqual(p.steps, planOf(seed-1).steps) {
			t.Errorf("seeds %d and %d have the same steps", seed-1, seed)
		}
		if len(p.steps) < minSteps {
			t.Errorf("seed %d has %d steps, want %d at least", seed, len(p.steps), minSteps)
		}
		for _, s := range p.steps {
			seen[s.fault] = true
		}
	}
	for f := range faults {
		if !seen[f] {
			t.Errorf("no seed has %q", f)
		}
	}
}

// TestAPlanStays: a seed of the corpus is worth nothing once it means another
// plan. Whoever changes the plans on purpose puts the new first steps here and
// looks for new seeds.
func TestAPlanStays(t *testing.T) {
	p := planOf(1)
	got := fmt.Sprintf("%d replicas, %d steps, first %s at %s", p.replicas, len(p.steps), p.steps[0], p.steps[0].at)
	if got != planOfSeed1 {
		t.Errorf("seed 1 means another plan:\n got %s\nwant %s", got, planOfSeed1)
	}
}
