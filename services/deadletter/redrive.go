package deadletter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditrail/auditrail/pkg/audit"
	"github.com/auditrail/auditrail/services/internal/topic"
)

const (
	// roundLetters and roundBytes bound what is sent before it is marked.
	roundLetters = 1000
	roundBytes   = 4 << 20
	// sendTimeout bounds each of the two writes of a round, also after a
	// signal.
	sendTimeout = 30 * time.Second
)

// Redrive puts dead letters back on their topics, says what became of them,
// and returns an error when not all could be sent that should be. A signal
// ends it after the round under way.
func Redrive(ctx context.Context, cfg RedriveConfig, deps Deps) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	cl, s, err := start(ctx, cfg.Kafka, deps, producing()...)
	if err != nil {
		return stopped(ctx, err)
	}
	defer cl.Close()
	topics, err := topic.IDs(ctx, cl)
	if err != nil {
		return stopped(ctx, err)
	}
	r := &redriver{
		cl: cl, cfg: cfg, began: time.Now(), outcomes: map[outcome]int{},
		contract: contract{maxAge: time.Duration(cfg.RetentionDays) * 24 * time.Hour, topics: topics, force: cfg.Force},
		wanted:   map[Position]bool{},
	}
	for _, p := range cfg.Letters {
		r.wanted[p] = false
	}
	s.more = func() string { return fmt.Sprintf(", %d %s", r.sent, r.verb()) }
	err = s.letters(ctx, r.keep, func(l *letter, redrivenAt time.Time) error {
		return r.take(ctx, l, redrivenAt)
	})
	if err == nil {
		err = r.flush(ctx)
	}
	if printErr := r.summary(deps.Out); err == nil {
		err = printErr
	}
	if err == nil && r.failed > 0 {
		err = fmt.Errorf("%d %s could not be sent; %s open", r.failed, english.PluralWord(r.failed, "dead letter", ""), english.PluralWord(r.failed, "it stays", "they stay"))
	}
	return errors.Join(stopped(ctx, err), notFound(r.missing(err)))
}

// producing are the options of the client that sends.
func producing() []kgo.Opt {
	return []kgo.Opt{
		kgo.RecordPartitioner(samePlace()),
		kgo.ProducerBatchMaxBytes(topic.MaxMessageBytes),
		// The producer is idempotent and waits for all replicas; it may give
		// up because a record that landed all the same is found by ingest.
		kgo.AllowIdempotentProduceCancellation(),
	}
}

// redriver is the state of one run.
type redriver struct {
	cl       *kgo.Client
	cfg      RedriveConfig
	contract contract
	began    time.Time
	wanted   map[Position]bool // the letters named, and whether they were met
	round    []*letter         // to be sent next
	bytes    int               // of the round
	outcomes map[outcome]int

	sent, skipped, failed, before int
}

// outcome is what became of a letter, in words.
type outcome struct{ topic, reason, what string }

// keep says whether l was asked for.
func (r *redriver) keep(l *letter) bool {
	if len(r.wanted) > 0 && !r.named(l) {
		return false
	}
	return r.cfg.Filter.match(l)
}

// named says whether l is one of the letters named, and notes that it is there.
func (r *redriver) named(l *letter) bool {
	named := false
	for _, p := range []Position{
		{topic: l.topic, partition: l.id.Partition, offset: l.id.Offset},
		{topic: l.id.TopicID.String(), partition: l.id.Partition, offset: l.id.Offset},
	} {
		if _, ok := r.wanted[p]; ok {
			r.wanted[p], named = true, true
		}
	}
	return named
}

// missing lists the letters named that were not met, if all was read.
func (r *redriver) missing(err error) (missing []string) {
	if err != nil {
		return nil
	}
	for p, met := range r.wanted {
		if !met {
			missing = append(missing, p.String())
		}
	}
	slices.Sort(missing)
	return missing
}

// take adds l to the round, or counts why not.
func (r *redriver) take(ctx context.Context, l *letter, redrivenAt time.Time) error {
	if !redrivenAt.IsZero() && !r.cfg.IncludeRedriven {
		r.before++
		return nil
	}
	if why := r.contract.skip(l, time.Now()); why != "" {
		r.skipped++
		r.count(l, "skipped: "+why)
		return nil
	}
	if r.cfg.DryRun {
		r.sent++
		r.count(l, r.verb())
		return nil
	}
	r.round = append(r.round, l)
	if r.bytes += l.bytes(); len(r.round) < roundLetters && r.bytes < roundBytes {
		return nil
	}
	return r.flush(ctx)
}

// verb says what happens to the letters that pass.
func (r *redriver) verb() string {
	if r.cfg.DryRun {
		return "would be sent"
	}
	return "sent"
}

func (r *redriver) count(l *letter, what string) {
	r.outcomes[outcome{l.topic, l.reason, what}]++
}

// flush sends the round, then marks as redriven what was acknowledged.
//
// If we die before the records are sent, the letters are open. If we die
// between the two, or a record landed and we were told that it failed, the
// letter is still open and the record is sent again by the next run: ingest
// looks up every redriven record and stores the event once. If we die after
// the markers, all is done.
func (r *redriver) flush(ctx context.Context) error {
	if len(r.round) == 0 {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	// A signal does not end what is in flight.
	ctx = context.WithoutCancel(ctx)
	of := make(map[*kgo.Record]*letter, len(r.round))
	records := make([]*kgo.Record, len(r.round))
	for i, l := range r.round {
		records[i] = l.record()
		of[records[i]] = l
	}
	r.round, r.bytes = nil, 0
	var markers []*kgo.Record
	var away error
	results, late := r.produce(ctx, records)
	if late {
		away = fmt.Errorf("kafka %v does not answer: once it does, run the command again", r.cfg.Kafka.Addr)
	}
	for _, res := range results {
		l := of[res.Record]
		if res.Err != nil {
			r.failed++
			why := res.Err.Error()
			if errors.Is(res.Err, context.DeadlineExceeded) {
				why = fmt.Sprintf("not acknowledged within %s", sendTimeout)
			}
			r.count(l, "failed: "+why)
			continue
		}
		r.sent++
		r.count(l, r.verb())
		markers = append(markers, l.marker(time.Now(), res.Record))
	}
	marked, _ := r.produce(ctx, markers)
	if err := marked.FirstErr(); err != nil {
		return fmt.Errorf("mark the dead letters that were sent: %w: they may still be listed; redriving them again is safe", err)
	}
	return away
}

// produce also says whether the time ran out: the errors are then whatever the
// client met last.
func (r *redriver) produce(ctx context.Context, records []*kgo.Record) (results kgo.ProduceResults, late bool) {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	results = r.cl.ProduceSync(ctx, records...)
	return results, ctx.Err() != nil
}

// record makes the letter's record again. Where it first stood goes along: of
// a record that was redriven before and failed again, the very first place,
// so that an event without an id gets the same one however often it is sent.
func (l *letter) record() *kgo.Record {
	first := l.id
	var headers []kgo.RecordHeader
	for _, h := range l.headers {
		if h.Key != audit.HeaderRedriven {
			headers = append(headers, h)
		} else if id, err := topic.ParsePosition(string(h.Value)); err == nil {
			first = id
		}
	}
	headers = append(headers, kgo.RecordHeader{Key: audit.HeaderRedriven, Value: []byte(first.String())})
	return &kgo.Record{Topic: l.topic, Key: l.key, Value: l.value, Headers: headers}
}

// bytes is what the letter's record takes.
func (l *letter) bytes() int {
	n := len(l.key) + len(l.value)
	for _, h := range l.headers {
		n += len(h.Key) + len(h.Value)
	}
	return n
}

// samePlace puts a record with a key where the SDK puts it, and one without,
// by where it first stood, where it is put whenever it is redriven: two copies on two partitions would
// be judged at the same time, and both stored.
func samePlace() kgo.Partitioner {
	sdk := kgo.StickyKeyPartitioner(nil)
	return kgo.BasicConsistentPartitioner(func(name string) func(*kgo.Record, int) int {
		keyed := sdk.ForTopic(name)
		return func(r *kgo.Record, partitions int) int {
			if r.Key == nil {
				first := slices.IndexFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == audit.HeaderRedriven })
				r = &kgo.Record{Key: r.Headers[first].Value}
			}
			return keyed.Partition(r, partitions)
		}
	})
}

// marker makes the record that closes the letter.
func (l *letter) marker(now time.Time, sent *kgo.Record) *kgo.Record {
	to := fmt.Sprintf("%s/%d/%d", sent.Topic, sent.Partition, sent.Offset)
	return &kgo.Record{Topic: topic.DeadLetter, Key: []byte(l.id.String()), Headers: []kgo.RecordHeader{
		{Key: topic.HeaderRedrivenAt, Value: []byte(strconv.FormatInt(now.UnixMilli(), 10))},
		{Key: topic.HeaderRedrivenTo, Value: []byte(to)},
	}}
}

// summary prints what became of the letters, by topic and reason.
func (r *redriver) summary(out io.Writer) error {
	if len(r.outcomes) > 0 {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "TOPIC\tREASON\tLETTERS\tOUTCOME")
		for _, o := range slices.SortedFunc(maps.Keys(r.outcomes), func(a, b outcome) int {
			return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.reason, b.reason), cmp.Compare(a.what, b.what))
		}) {
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", plain(o.topic), plain(o.reason), r.outcomes[o], o.what)
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	line := fmt.Sprintf("%d %s, %d skipped, %d failed", r.sent, r.verb(), r.skipped, r.failed)
	if r.before > 0 {
		line += fmt.Sprintf("; %d %s redriven before, --include-redriven sends %s again", r.before, english.PluralWord(r.before, "was", "were"), english.PluralWord(r.before, "it", "them"))
	}
	_, err := fmt.Fprintf(out, "%s in %s\n", line, time.Since(r.began).Round(time.Millisecond))
	return err
}
