package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"github.com/auditrail/auditrail/services/internal/report"
)

type reportCmd struct {
	Verify reportVerifyCmd `cmd:"" help:"Hold a report that was downloaded to its manifest: length, and SHA-256 at the end of each part and of the whole."`
}

type reportVerifyCmd struct {
	File     string `arg:"" help:"The report as it was downloaded, not unpacked; - is standard input."`
	Manifest string `required:"" env:"-" placeholder:"FILE" help:"Its manifest, which GET /audit-log/admin/report/ID/manifest gives; - is standard input."`
}

// Run reads the file once, in constant memory, and prints what the report is. It
// ends with an error when the file is another.
func (c *reportVerifyCmd) Run(ctx context.Context) error {
	if c.File == "-" && c.Manifest == "-" {
		return errors.New("the file and its manifest cannot both be standard input")
	}
	of, err := open(c.Manifest)
	if err != nil {
		return fmt.Errorf("--manifest: %w", err)
	}
	m, err := report.ReadManifest(of)
	_ = of.Close() // it was only read
	if err != nil {
		return fmt.Errorf("--manifest %s: %w", c.Manifest, err)
	}
	file, err := open(c.File)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it is only read
	watched := &progress{ctx: ctx, from: file, size: m.Bytes, every: time.Second, next: time.Now().Add(time.Second)}
	if info, err := os.Stderr.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		watched.to = os.Stderr
	}
	err = m.Check(watched)
	watched.end()
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	fmt.Print(facts(m))
	return nil
}

// open opens a file for reading; "-" is standard input.
func open(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(os.Stdin), nil
	}
	return os.Open(name) //nolint:gosec // the user's own choice
}

// facts says what a report is, in a few lines. What users wrote is quoted: it
// goes to a terminal.
func facts(m *report.Manifest) string {
	at := func(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }
	bound := func(ms *int64, open string) string {
		if ms == nil {
			return open
		}
		return at(*ms)
	}
	who := m.UserUUID
	if m.UserName != "" {
		who = m.UserName
	}
	kind := string(m.Format)
	if m.Compression != report.None {
		kind += ", " + string(m.Compression)
	}
	s := fmt.Sprintf("report %d is what its manifest says\n", m.ReportID)
	line := func(name, format string, args ...any) {
		s += fmt.Sprintf("  %-12s ", name) + fmt.Sprintf(format, args...) + "\n"
	}
	line("name", "%q", m.Name)
	line("file", "%s, %s (%s bytes), %s", kind, humanize.IBytes(uint64(m.Bytes)), humanize.Comma(m.Bytes), english.Plural(len(m.Parts), "part", ""))
	line("rows", "%s", humanize.Comma(m.Rows))
	line("sha256", "%s", m.SHA256)
	line("of", "subscription %q, as %q (%q) sees it", m.CustomerUUID, who, m.UserRole)
	line("range", "%s to %s", bound(m.StartDate, "the first"), bound(m.EndDate, "the last"))
	if m.Clipped {
		line("", "events before %s may have been gone already", at(m.KeptSince))
	}
	if m.Query != "" {
		line("query", "%q", m.Query)
	}
	line("complete", "with all that was taken in before %s", at(m.CompleteUpTo))
	line("made", "%s to %s", at(m.CreatedDate), at(m.FinishedDate))
	return s
}

// progress is a reader that tells a terminal how far it is, and ends when ctx
// does.
type progress struct {
	ctx   context.Context //nolint:containedctx // that of the one read
	from  io.Reader
	to    io.Writer // nil: nobody
	size  int64
	at    int64
	every time.Duration
	next  time.Time // when it is told again
	told  bool
}

func (p *progress) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := p.from.Read(b)
	p.at += int64(n)
	if now := time.Now(); p.to != nil && now.After(p.next) && p.size > 0 {
		p.next, p.told = now.Add(p.every), true
		fmt.Fprintf(p.to, "\r%3d%% of %s", min(100, 100*p.at/p.size), humanize.IBytes(uint64(p.size)))
	}
	return n, err
}

// end clears the line.
func (p *progress) end() {
	if p.told {
		fmt.Fprint(p.to, "\r\033[K")
	}
}
