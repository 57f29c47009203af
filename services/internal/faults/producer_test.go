package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/kafka"
)

// modules are the codes that the producer emits for; a topic each.
var modules = []string{"PM", "VM", "WAS"}

// In a hundred records so many are invalid, carry no id, happened in another
// month, and are sent twice.
const (
	invalidPercent = 4
	noIDPercent    = 5
	oldPercent     = 5
	twicePercent   = 3
)

// position is where a record stands.
type position struct {
	topic     string
	partition int32
	offset    int64
}

func (p position) String() string { return fmt.Sprintf("%s/%d/%d", p.topic, p.partition, p.offset) }

// sent is one record that the producer made, and what it knows of its fate.
type sent struct {
	name     string // unlike any other's; it stands in the record
	id       string // empty: ingest makes one of the position
	customer string
	invalid  bool
	topic    string
	value    []byte
	resent   bool

	acked []position // guarded by the producer's mu
	err   error      // of the last attempt, when that was not acknowledged; guarded by mu
}

// producer sends made-up events at a rate and keeps what it knows of them. Its
// kill is that of a process as far as brokers can tell: its connections break
// in the middle of requests, and its successor has another producer id.
type producer struct {
	cfg kafka.Config
	r   *rand.Rand

	gate sync.RWMutex // held for writing while the client is another
	cl   *kgo.Client  // guarded by gate
	out  *sync.WaitGroup

	mu     sync.Mutex
	events []*sent // guarded by mu
	kills  int     // guarded by mu
}

func newProducer(cfg kafka.Config, seed uint64) (*producer, error) {
	p := &producer{cfg: cfg, r: rand.New(rand.NewPCG(seed, 0xe4e47))}
	return p, p.open()
}

// open makes a client that never gives a record up. gate is held, or nobody
// else is there.
func (p *producer) open() error {
	cl, err := kgo.NewClient(append(p.cfg.Options(zap.NewNop()),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(5*time.Millisecond), kgo.UnknownTopicRetries(-1),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), kgo.MaxBufferedRecords(1<<20))...)
	if err != nil {
		return err
	}
	p.cl, p.out = cl, &sync.WaitGroup{}
	return nil
}

// run sends perSecond records a second until ctx ends.
func (p *producer) run(ctx context.Context, perSecond int) {
	const tick = 10 * time.Millisecond
	every := time.NewTicker(tick)
	defer every.Stop()
	began, made := time.Now(), 0
	for {
		select {
		case <-every.C:
		case <-ctx.Done():
			return
		}
		for due := int(time.Since(began).Seconds() * float64(perSecond)); made < due; made++ {
			e := p.next(made)
			p.mu.Lock()
			p.events = append(p.events, e)
			p.mu.Unlock()
			p.send(e)
			if !e.invalid && e.id != "" && p.r.IntN(100) < twicePercent {
				p.send(e)
			}
		}
	}
}

// next makes a record.
func (p *producer) next(n int) *sent {
	r := p.r
	s := &sent{name: fmt.Sprintf("event-%06d", n), customer: fmt.Sprintf("customer-%d", r.IntN(17))}
	module := modules[r.IntN(len(modules))]
	s.topic = audit.Topic(module)
	e := audit.Event{
		CustomerUUID: s.customer, ModuleCode: module, UserName: "Jack", Action: "Add", RequestID: s.name,
		CreatedDate: time.Now().UnixMilli(), AuditComment: strings.Repeat("x", r.IntN(600)),
	}
	if r.IntN(100) >= noIDPercent {
		s.id = uuid.Must(uuid.NewRandomFromReader(reader{r})).String()
		e.ID = s.id
	}
	if r.IntN(100) < oldPercent {
		e.CreatedDate -= int64(1+r.IntN(3)) * 31 * 24 * time.Hour.Milliseconds()
	}
	if r.IntN(100) < invalidPercent {
		s.invalid = true
		if r.IntN(2) == 0 {
			s.value = []byte("not JSON: " + s.name)
			return s
		}
		e.Action = ""
	}
	value, err := e.AppendJSON(nil)
	if err != nil {
		panic(err) // the test's own event
	}
	s.value = value
	return s
}

// reader gives random bytes of a seed.
type reader struct{ r *rand.Rand }

func (r reader) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(r.r.Uint32())
	}
	return len(b), nil
}

// send hands a record to the client.
func (p *producer) send(s *sent) {
	p.gate.RLock()
	defer p.gate.RUnlock()
	r := &kgo.Record{Topic: s.topic, Key: []byte(s.customer), Value: s.value}
	if s.resent {
		r.Headers = []kgo.RecordHeader{{Key: audit.HeaderResent, Value: []byte("1")}}
	}
	out := p.out
	out.Add(1)
	p.cl.Produce(context.Background(), r, func(r *kgo.Record, err error) {
		defer out.Done()
		p.mu.Lock()
		defer p.mu.Unlock()
		if s.err = err; err == nil {
			s.acked = append(s.acked, position{r.Topic, r.Partition, r.Offset})
		}
	})
}

// kill ends the producer in the middle of what it does, and starts another.
func (p *producer) kill() error {
	p.gate.Lock()
	p.cl.Close()
	p.out.Wait()
	err := p.open()
	p.gate.Unlock()
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.kills++
	var again []*sent
	for _, s := range p.events {
		if len(s.acked) == 0 && s.err != nil {
			again = append(again, s)
		}
	}
	p.mu.Unlock()
	for _, s := range again {
		s.resent = true
		p.send(s)
	}
	return nil
}

// flush waits until the fate of all records is known.
func (p *producer) flush(ctx context.Context) error {
	p.gate.RLock()
	defer p.gate.RUnlock()
	return p.cl.Flush(ctx)
}

func (p *producer) close() {
	p.gate.Lock()
	defer p.gate.Unlock()
	p.cl.Close()
}

// fates are all records that were made, by name.
func (p *producer) fates() map[string]*sent {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make(map[string]*sent, len(p.events))
	for _, s := range p.events {
		all[s.name] = s
	}
	return all
}
