package faults

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/kafka"
	"github.com/auditrail/auditrail/services/internal/testenv"
	"github.com/auditrail/auditrail/services/internal/topic"
)

// found is what a campaign left behind.
type found struct {
	ids  map[string]uuid.UUID      // topics
	log  map[string][]position     // what Kafka holds, by name of the record
	rows map[string][]row          // what the table holds, by name
	dead map[string]map[string]int // dead letters: by name, by key, how many
}

type row struct {
	id, customer string
	at           position
}

// check waits until everything is stored, and compares.
func (c *campaign) check() {
	t := c.t
	fates, f := c.producer.fates(), found{}
	defer func() { c.summary(fates, f) }()
	ctx, cancel := context.WithTimeout(t.Context(), drainLimit)
	defer cancel()
	if err := c.producer.flush(ctx); err != nil {
		t.Fatalf("the producer does not get rid of what it holds: %v", err)
	}
	c.note("the producer knows all fates")
	testenv.Until(t, drainLimit, nil, "committed offsets to reach the ends", c.drained)
	c.note("committed offsets have reached the ends")
	for _, r := range c.replicas[:c.plan.replicas] {
		testenv.Until(t, drainLimit, nil, "/readyz of "+r.name, func() (bool, string) {
			status, body := r.get("/readyz")
			return status == http.StatusOK, body
		})
	}
	f = c.find(ctx)
	var problems []string
	for name, s := range fates {
		for _, p := range f.compare(s) {
			problems = append(problems, fmt.Sprintf("%s of %s, id %q: %s\n      acknowledged at %v, in Kafka at %v, stored at %v, dead letters %v",
				name, s.customer, s.id, p, s.acked, f.log[name], f.rows[name], f.dead[name]))
		}
	}
	for name := range f.rows {
		if fates[name] == nil {
			problems = append(problems, fmt.Sprintf("the table holds %q, which nobody sent: %v", name, f.rows[name]))
		}
	}
	problems = append(problems, f.twins()...)
	problems = append(problems, c.counters(f)...)
	if len(problems) == 0 {
		return
	}
	slices.Sort(problems)
	const most = 30
	t.Errorf("%d problems:\n%s", len(problems), strings.Join(problems[:min(most, len(problems))], "\n"))
}

// drained says that every partition's committed offset is its end.
func (c *campaign) drained() (bool, string) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 10*time.Second)
	defer cancel()
	var topics []string
	for _, m := range modules {
		topics = append(topics, audit.Topic(m))
	}
	ends, err := c.admin.ListEndOffsets(ctx, topics...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return false, err.Error()
	}
	committed, err := c.admin.FetchOffsets(ctx, group)
	if err != nil {
		return false, err.Error()
	}
	var behind []string
	for topic, ps := range ends {
		for p, end := range ps {
			at := int64(0)
			if o, ok := committed.Lookup(topic, p); ok {
				at = max(0, o.At)
			}
			if at != end.Offset {
				behind = append(behind, fmt.Sprintf("%s/%d is at %d of %d", topic, p, at, end.Offset))
			}
		}
	}
	return len(behind) == 0, strings.Join(behind, ", ")
}

// find reads Kafka and the table.
func (c *campaign) find(ctx context.Context) found {
	t := c.t
	f := found{log: map[string][]position{}, rows: map[string][]row{}, dead: map[string]map[string]int{}}
	var err error
	if f.ids, err = topic.IDs(ctx, c.client); err != nil {
		t.Fatal(err)
	}
	at := kafka.Config{Addr: []string{c.kafka.addr()}}
	for _, m := range modules {
		for _, r := range testenv.Records(ctx, t, at, audit.Topic(m)) {
			n := nameIn(r.Value)
			f.log[n] = append(f.log[n], position{r.Topic, r.Partition, r.Offset})
		}
	}
	for _, r := range testenv.Records(ctx, t, at, topic.DeadLetter) {
		n := nameIn(r.Value)
		if f.dead[n] == nil {
			f.dead[n] = map[string]int{}
		}
		f.dead[n][string(r.Key)]++
	}
	names := map[string]string{}
	for name, id := range f.ids {
		names[id.String()] = name
	}
	rows, err := c.conn.Query(ctx, "SELECT request_id, toString(id), customer_uuid, toString(topic_id), toInt32(kafka_partition), kafka_offset FROM audit_events")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name, topicID string
		var r row
		if err := rows.Scan(&name, &r.id, &r.customer, &topicID, &r.at.partition, &r.at.offset); err != nil {
			t.Fatal(err)
		}
		r.at.topic = names[topicID]
		f.rows[name] = append(f.rows[name], r)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return f
}

var name = regexp.MustCompile(`event-\d{6}`)

func nameIn(value []byte) string { return string(name.Find(value)) }

// compare says what is wrong with one record's fate. A record that Kafka holds
// must be stored, or be a dead letter, once; one whose fate the producer does
// not know may be in Kafka or not. An event with an id that Kafka holds twice,
// because it was sent twice or because the embedded broker, killed, forgot that
// it had it, is stored once; without an id each record is an event of its own.
func (f found) compare(s *sent) (problems []string) {
	log, rows, dead := f.log[s.name], f.rows[s.name], f.dead[s.name]
	for _, p := range s.acked {
		if !slices.Contains(log, p) {
			problems = append(problems, "Kafka lost it at "+p.String())
		}
	}
	if s.invalid {
		if len(rows) > 0 {
			problems = append(problems, "it is invalid and stored")
		}
		var want []string
		for _, p := range log {
			want = append(want, fmt.Sprintf("%s/%d/%d", f.ids[p.topic], p.partition, p.offset))
		}
		slices.Sort(want)
		if got := slices.Sorted(maps.Keys(dead)); !slices.Equal(got, want) {
			problems = append(problems, fmt.Sprintf("its dead letters have the keys %v, want %v", got, want))
		}
		return problems
	}
	if len(dead) > 0 {
		problems = append(problems, "it is valid and a dead letter")
	}
	want := len(log)
	if s.id != "" {
		want = min(1, want)
	}
	if len(rows) != want {
		problems = append(problems, fmt.Sprintf("it is stored %d times, want %d", len(rows), want))
	}
	seen := map[position]bool{}
	for _, r := range rows {
		id := s.id
		if id == "" {
			id = uuid.NewSHA1(f.ids[r.at.topic], fmt.Appendf(nil, "%d/%d", r.at.partition, r.at.offset)).String()
		}
		if seen[r.at] || !slices.Contains(log, r.at) || r.id != id || r.customer != s.customer {
			problems = append(problems, fmt.Sprintf("its row says %+v, want id %s, and every place once", r, id))
		}
		seen[r.at] = true
	}
	return problems
}

// twins are keys, customer and id, that rows of several records have.
func (f found) twins() (problems []string) {
	type key struct{ customer, id string }
	by := map[key]string{}
	for name, rows := range f.rows {
		for _, r := range rows {
			k := key{r.customer, r.id}
			if other, ok := by[k]; ok && other != name {
				problems = append(problems, fmt.Sprintf("%s and %s are both stored as %s of %s", name, other, k.id, k.customer))
			}
			by[k] = name
		}
	}
	return problems
}

// counters checks what holds of ingest's counters although kills take theirs
// along:
//   - in each process that lives, records settled are rows, dead letters and
//     duplicates, and those that a recovery found stored already;
//   - when no process ended, each record was settled by one of them at least:
//     one that was settled and whose commit was refused is settled again.
func (c *campaign) counters(f found) (problems []string) {
	settled, whole := 0.0, true
	for i, r := range c.replicas {
		whole = whole && (r.times() == 1 && !r.isHeld() || i == c.plan.replicas && r.times() == 0)
		if r.isHeld() {
			continue
		}
		var n [4]float64
		for i, metric := range []string{"records_total", "rows_total", "dead_letters_total", "duplicates_total"} {
			var err error
			if n[i], err = r.count("auditrail_ingest_" + metric); err != nil {
				problems = append(problems, err.Error())
			}
		}
		if n[0] < n[1]+n[2]+n[3] {
			problems = append(problems, fmt.Sprintf("%s counts %v records settled, %v rows, %v dead letters and %v duplicates", r.name, n[0], n[1], n[2], n[3]))
		}
		settled += n[0]
	}
	total := 0
	for _, at := range f.log {
		total += len(at)
	}
	if whole && settled < float64(total) {
		problems = append(problems, fmt.Sprintf("no replica ended, and all count %v records settled of %d", settled, total))
	}
	return problems
}

// summary prints the seed's one line.
func (c *campaign) summary(fates map[string]*sent, f found) {
	acked, unknown, twice := 0, 0, 0
	for _, s := range fates {
		if len(f.log[s.name]) > 1 {
			twice++
		}
		if len(s.acked) > 0 {
			acked++
		} else {
			unknown++
		}
	}
	met := map[string]int{}
	for _, s := range c.plan.steps {
		if b := faults[s.fault]; b.to > 0 || s.fault == engineReset || s.fault == kafkaReset || s.fault == producerKilled {
			met[string(s.fault)]++
		}
	}
	for _, p := range append([]*proxy{c.kafka}, c.engines...) {
		p.mu.Lock()
		for b, n := range p.struck { // of those that were armed, the ones that met a write
			met[b.write+" "+string(b.how)] += n
		}
		p.mu.Unlock()
	}
	var by []string
	for _, f := range slices.Sorted(maps.Keys(met)) {
		by = append(by, fmt.Sprintf("%s %d", f, met[f]))
	}
	verdict := "ok"
	if c.t.Failed() {
		verdict = "FAILED"
	}
	fmt.Printf("seed %d: %s, %.0fs, %d events acknowledged, %d of unknown fate, %d twice in Kafka, %d stored, %d dead; %s\n", c.plan.seed, verdict,
		time.Since(c.began).Seconds(), acked, unknown, twice, len(f.rows), len(f.dead), strings.Join(by, ", "))
}
