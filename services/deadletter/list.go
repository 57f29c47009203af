package deadletter

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize/english"
)

// row is one line of the list. Its JSON form is documented in
// docs/operations.md.
type row struct {
	Key           string `json:"key"`
	AppendedAt    int64  `json:"appendedAt"` // epoch ms; when Kafka took the record
	Topic         string `json:"topic"`
	Partition     int32  `json:"partition"`
	Offset        int64  `json:"offset"`
	Reason        string `json:"reason"`
	Problem       string `json:"problem"`
	CustomerUUID  string `json:"customerUuid,omitempty"`  // of the value, else the record's key
	Size          int64  `json:"size"`                    // bytes of the record's value
	CannotRedrive string `json:"cannotRedrive,omitempty"` // why it never can be redriven
	RedrivenAt    int64  `json:"redrivenAt,omitempty"`    // epoch ms
}

func newRow(l *letter, redrivenAt time.Time) row {
	r := row{
		Key: l.id.String(), AppendedAt: l.appendedAt.UnixMilli(), Topic: l.topic, Partition: l.id.Partition, Offset: l.id.Offset,
		Reason: l.reason, Problem: l.problem, CustomerUUID: l.customer(), Size: l.size, CannotRedrive: l.lasting(),
	}
	if !redrivenAt.IsZero() {
		r.RedrivenAt = redrivenAt.UnixMilli()
	}
	return r
}

// List prints the dead letters that are open.
func List(ctx context.Context, cfg ListConfig, deps Deps) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	cl, s, err := start(ctx, cfg.Kafka, deps)
	if err != nil {
		return stopped(ctx, err)
	}
	defer cl.Close()
	rows := first{limit: cfg.Limit, order: byTime}
	if cfg.Order == "newest" {
		rows.order = func(a, b row) int { return byTime(b, a) }
	}
	hidden := 0
	if err := s.letters(ctx, cfg.Filter.match, func(l *letter, redrivenAt time.Time) error {
		if !redrivenAt.IsZero() && !cfg.IncludeRedriven {
			hidden++
			return nil
		}
		rows.add(newRow(l, redrivenAt))
		return nil
	}); err != nil {
		return stopped(ctx, err)
	}
	if err := printRows(deps.Out, rows.all(), cfg); err != nil {
		return err
	}
	noteRows(deps.Notes, rows, hidden, cfg)
	return nil
}

func byTime(a, b row) int {
	return cmp.Or(cmp.Compare(a.AppendedAt, b.AppendedAt), cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
}

// first keeps the first rows of an order and counts all.
type first struct {
	limit int // 0: none
	order func(a, b row) int
	rows  []row // twice the limit, at most
	count int
}

func (f *first) add(r row) {
	f.count++
	if f.rows = append(f.rows, r); f.limit > 0 && len(f.rows) >= 2*f.limit {
		f.all()
	}
}

// all sorts the rows kept and drops those beyond the limit.
func (f *first) all() []row {
	slices.SortFunc(f.rows, f.order)
	if f.limit > 0 && len(f.rows) > f.limit {
		clear(f.rows[f.limit:])
		f.rows = f.rows[:f.limit]
	}
	return f.rows
}

func printRows(out io.Writer, rows []row, cfg ListConfig) error {
	if cfg.Output == "json" {
		enc := json.NewEncoder(out)
		enc.SetEscapeHTML(false)
		for _, r := range rows {
			if err := enc.Encode(r); err != nil {
				return err
			}
		}
		return nil
	}
	if len(rows) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	head := "APPENDED\tRECORD\tREASON\tCUSTOMER\tBYTES\t"
	if cfg.IncludeRedriven {
		head += "REDRIVEN\t"
	}
	fmt.Fprintln(w, head+"PROBLEM")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s/%d/%d\t%s\t%s\t%d\t", stamp(r.AppendedAt), plain(r.Topic), r.Partition, r.Offset, plain(r.Reason), cmp.Or(short(plain(r.CustomerUUID), maxCustomer), "-"), r.Size)
		if cfg.IncludeRedriven {
			fmt.Fprintf(w, "%s\t", stamp(r.RedrivenAt))
		}
		fmt.Fprintln(w, short(plain(r.Problem), maxProblem))
	}
	return w.Flush()
}

// maxCustomer and maxProblem are the widest cells of the table, in characters.
const (
	maxCustomer = 40
	maxProblem  = 120
)

// noteRows says what the rows do not: that there is none, or that there are more.
func noteRows(notes io.Writer, f first, hidden int, cfg ListConfig) {
	var redriven string
	if hidden > 0 {
		redriven = fmt.Sprintf("; %d that %s hidden, --include-redriven shows %s", hidden, english.PluralWord(hidden, "was redriven is", "were redriven are"), english.PluralWord(hidden, "it", "them"))
	}
	switch {
	case f.count == 0 && !cfg.Filter.empty():
		fmt.Fprintf(notes, "no dead letter passes these filters%s\n", redriven)
	case f.count == 0:
		fmt.Fprintf(notes, "no dead letters%s\n", redriven)
	case f.count > len(f.rows):
		fmt.Fprintf(notes, "the %s %d of %d: %d more, see --limit%s\n", cfg.Order, len(f.rows), f.count, f.count-len(f.rows), redriven)
	case hidden > 0:
		fmt.Fprintf(notes, "%d %s%s\n", f.count, english.PluralWord(f.count, "dead letter", ""), redriven)
	}
}
