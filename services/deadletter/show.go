package deadletter

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize/english"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditrail/auditrail/services/internal/topic"
)

// Show prints everything about one dead letter: about several when a topic
// that was made anew had two records of that offset.
func Show(ctx context.Context, cfg ShowConfig, deps Deps) error {
	cl, s, err := start(ctx, cfg.Kafka, deps)
	if err != nil {
		return stopped(ctx, err)
	}
	defer cl.Close()
	var found []*letter
	markers := map[topic.Position]*marker{}
	if err := s.read(ctx, "looking for the dead letter", func(r *kgo.Record) error {
		l, m := parse(r)
		switch {
		case m != nil && m.id.Partition == cfg.Letter.partition && m.id.Offset == cfg.Letter.offset:
			markers[m.id] = m
		case l != nil && l.is(cfg.Letter) && !contains(found, l.id):
			found = append(found, l)
		}
		return nil
	}); err != nil {
		return stopped(ctx, err)
	}
	switch {
	case len(found) == 0:
		return notFound([]string{cfg.Letter.String()})
	case cfg.Raw && len(found) > 1:
		var keys []string
		for _, l := range found {
			keys = append(keys, l.id.String())
		}
		return fmt.Errorf("%s names several dead letters: choose one of %s", cfg.Letter, strings.Join(keys, ", "))
	case cfg.Raw:
		_, err := deps.Out.Write(found[0].value)
		return err
	}
	for i, l := range found {
		if i > 0 {
			fmt.Fprintln(deps.Out)
		}
		describe(deps.Out, l, markers[l.id])
	}
	return nil
}

func contains(ls []*letter, id topic.Position) bool {
	for _, l := range ls {
		if l.id == id {
			return true
		}
	}
	return false
}

// describe prints l; m may be nil.
func describe(out io.Writer, l *letter, m *marker) {
	line := func(name, value string) { fmt.Fprintf(out, "%-10s %s\n", name, value) }
	line("key", l.id.String())
	line("record", plain(l.position()))
	line("appended", stamp(l.appendedAt.UnixMilli()))
	line("reason", plain(l.reason))
	line("problem", plain(l.problem))
	line("customer", cmp.Or(plain(l.customer()), "-"))
	size := fmt.Sprintf("%d %s", l.size, english.PluralWord(int(l.size), "byte", ""))
	if l.cut {
		size += fmt.Sprintf("; the first %d are kept, sha256 of the whole %s", len(l.value), plain(l.sha256))
	}
	line("value", size)
	if l.batch != "" {
		line("batch", "offsets "+plain(l.batch)+", as Kafka keeps it: packed")
	}
	switch lasting := l.lasting(); {
	case m != nil:
		line("redriven", stamp(m.at.UnixMilli())+" to "+plain(m.to))
	case lasting != "":
		line("redriven", "no, and it cannot be: "+lasting)
	default:
		line("redriven", "no")
	}
	recordKey := "none"
	if l.key != nil {
		recordKey = strconv.QuoteToGraphic(string(l.key))
	}
	if l.keySize > len(l.key) {
		recordKey += fmt.Sprintf("; the first %d of %d bytes", len(l.key), l.keySize)
	}
	line("record key", recordKey)
	for _, h := range l.headers {
		line("header", plain(h.Key)+" = "+strconv.QuoteToGraphic(string(h.Value)))
	}
	if len(l.value) > 0 {
		fmt.Fprintf(out, "\n%s", readable(l.value))
	}
}
