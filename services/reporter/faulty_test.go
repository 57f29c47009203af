package reporter

import (
	"context"
	"errors"
	"io"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/gcerrors"

	"github.com/auditrail/auditrail/services/internal/report"
)

// fault is what becomes of the write of an object.
type fault int

// Faults.
const (
	none   fault = iota
	lost         // it is not there, and fails
	landed       // it is there, and fails
	full         // there is no room: fails in the middle
	stuck        // nothing moves until its context ends
)

// faulty is an object store whose writes fail as a test says.
type faulty struct {
	bucket *blob.Bucket

	mu     sync.Mutex
	of     func(name string, nth int) fault // guarded by mu
	writes map[string]int                   // by what is written; guarded by mu
	names  []string                         // all that were begun; guarded by mu
}

var faults sync.Map // of tests, by the host of their URL

func init() { blob.DefaultURLMux().RegisterBucket("faulty", opener{}) }

type opener struct{}

func (opener) OpenBucketURL(_ context.Context, u *url.URL) (*blob.Bucket, error) {
	f, ok := faults.Load(u.Host)
	if !ok {
		return nil, errors.New("no such store")
	}
	return blob.NewBucket(f.(*faulty)), nil
}

// breakStore puts a faulty store before that of the desk. of says what becomes
// of the nth write, from 1, of an object whose name is the last part of its path,
// up to the first dash: 00000, header, manifest.
func (d *desk) breakStore(of func(what string, nth int) fault) *faulty {
	d.t.Helper()
	f := &faulty{of: of, writes: map[string]int{}}
	files, err := report.OpenFiles(d.t.Context(), d.cfg.Files)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = files.Close() })
	f.bucket = files.Bucket()
	host := strings.ToLower(strings.NewReplacer("/", "-", "_", "-", "=", "-").Replace(d.t.Name()))
	faults.Store(host, f)
	d.cfg.Files.URL = "faulty://" + host
	return f
}

// change sets what becomes of writes from now on.
func (f *faulty) change(of func(what string, nth int) fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.of = of
}

// begun is how many writes of what there were.
func (f *faulty) begun(what string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writes[what]
}

var errFault = errors.New("the store fails, as the test says")

func (f *faulty) NewTypedWriter(ctx context.Context, key, contentType string, _ *driver.WriterOptions) (driver.Writer, error) {
	what := key[strings.LastIndexByte(key, '/')+1:]
	what, _, _ = strings.Cut(what, "-")
	f.mu.Lock()
	f.writes[what]++
	f.names = append(f.names, key)
	is := f.of(what, f.writes[what])
	f.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	w, err := f.bucket.NewWriter(ctx, key, &blob.WriterOptions{ContentType: contentType})
	return &faultyWriter{w, is, ctx, cancel}, err
}

type faultyWriter struct {
	*blob.Writer
	fault  fault
	ctx    context.Context
	cancel context.CancelFunc
}

func (w *faultyWriter) Write(b []byte) (int, error) {
	switch w.fault {
	case full:
		return 0, syscall.ENOSPC
	case stuck:
		<-w.ctx.Done()
		return 0, w.ctx.Err()
	case none, lost, landed:
	}
	return w.Writer.Write(b)
}

func (w *faultyWriter) Close() error {
	defer w.cancel()
	if w.fault != none && w.fault != landed {
		w.cancel()
	}
	err := w.Writer.Close()
	if w.fault != none && w.ctx.Err() == nil || w.fault == lost {
		return errFault
	}
	return err
}

func (f *faulty) ErrorCode(err error) gcerrors.ErrorCode { return gcerrors.Code(err) }
func (f *faulty) As(any) bool                            { return false }
func (f *faulty) ErrorAs(error, any) bool                { return false }
func (f *faulty) Close() error                           { return nil }

func (f *faulty) Attributes(ctx context.Context, key string) (*driver.Attributes, error) {
	a, err := f.bucket.Attributes(ctx, key)
	if err != nil {
		return nil, err
	}
	return &driver.Attributes{ModTime: a.ModTime, Size: a.Size}, nil
}

func (f *faulty) ListPaged(ctx context.Context, opts *driver.ListOptions) (*driver.ListPage, error) {
	var page driver.ListPage
	all := f.bucket.List(&blob.ListOptions{Prefix: opts.Prefix})
	for {
		o, err := all.Next(ctx)
		if errors.Is(err, io.EOF) {
			return &page, nil
		}
		if err != nil {
			return nil, err
		}
		page.Objects = append(page.Objects, &driver.ListObject{Key: o.Key, ModTime: o.ModTime, Size: o.Size})
	}
}

func (f *faulty) NewRangeReader(ctx context.Context, key string, offset, length int64, _ *driver.ReaderOptions) (driver.Reader, error) {
	r, err := f.bucket.NewRangeReader(ctx, key, offset, length, nil)
	if err != nil {
		return nil, err
	}
	return faultyReader{r}, nil
}

type faultyReader struct{ *blob.Reader }

func (r faultyReader) Attributes() *driver.ReaderAttributes {
	return &driver.ReaderAttributes{Size: r.Size(), ModTime: r.ModTime()}
}

func (f *faulty) Copy(context.Context, string, string, *driver.CopyOptions) error { return errFault }

func (f *faulty) Delete(ctx context.Context, key string, _ *driver.DeleteOptions) error {
	return f.bucket.Delete(ctx, key)
}

func (f *faulty) SignedURL(context.Context, string, *driver.SignedURLOptions) (string, error) {
	return "", errFault
}

// TestAStoreThatFailsNowAndThen loses writes, and reports lost what landed.
func TestAStoreThatFailsNowAndThen(t *testing.T) {
	t.Parallel()
	for name, is := range map[string]fault{"lost": lost, "landed": landed} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			d.fill("c", 0, 5000)
			d.breakStore(func(_ string, nth int) fault {
				if nth <= 2 {
					return is
				}
				return none
			})
			d.start()
			for _, format := range []report.Format{report.CSV, report.Parquet} {
				j := d.finished(d.create(spec("c", 5000, func(s *report.Spec) { s.Format = format })).ID)
				file, m := d.download(j)
				if format == report.CSV {
					d.wants(file, "c", 5000)
				}
				if m.Rows != 5000 {
					t.Errorf("%d rows, want 5000", m.Rows)
				}
				d.onlyTheFileIsLeft(j, m)
			}
		})
	}
}

// onlyTheFileIsLeft waits until the objects of attempts that failed are gone.
func (d *desk) onlyTheFileIsLeft(j *report.Job, m *report.Manifest) {
	d.t.Helper()
	want := map[string]bool{j.End.Manifest: true}
	for _, p := range m.Parts {
		want[p.Object] = true
	}
	d.until(j.ID, "to be tidy", func(*report.Job) bool {
		got := d.objects(report.Dir(j.Spec.Job))
		for name := range got {
			if !want[name] {
				return false
			}
		}
		return len(got) == len(want)
	})
}

// objects lists the names of objects.
func (d *desk) objects(prefix string) (names map[string]bool) {
	d.t.Helper()
	d.eventually("the objects", func() error {
		names = map[string]bool{}
		all := d.files.Bucket().List(&blob.ListOptions{Prefix: prefix})
		for {
			o, err := all.Next(d.t.Context())
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err // a file that went meanwhile
			}
			names[o.Key] = true
		}
	})
	return names
}

// TestAFullStoreFailsTheReportUntilItIsResumed: chunks that are there are not
// made again.
func TestAFullStoreFailsTheReportUntilItIsResumed(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.fill("c", 0, 5000)
	f := d.breakStore(func(what string, _ int) fault {
		if what == "00003" {
			return full
		}
		return none
	})
	d.start()
	j := d.create(spec("c", 5000))
	j = d.until(j.ID, "to fail", func(j *report.Job) bool { return j.State == report.StateFailed })
	if !strings.Contains(j.Reason, "store is full") || !strings.Contains(j.Reason, "rerun") {
		t.Errorf("reason %q", j.Reason)
	}
	if n := f.begun("00003"); n != fullTries {
		t.Errorf("tried %d times, want %d", n, fullTries)
	}
	if len(j.Chunks) != 4 { // and the header
		t.Fatalf("%d chunks are there", len(j.Chunks))
	}
	f.change(func(string, int) fault { return none })
	call := j.Call
	if _, err := d.table.Resume(t.Context(), j.ID, "jack", call); err != nil {
		t.Fatal(err)
	}
	j = d.finished(j.ID)
	file, m := d.download(j)
	d.wants(file, "c", 5000)
	for _, what := range []string{"header", "00000", "00001", "00002"} {
		if n := f.begun(what); n != 1 {
			t.Errorf("%s was made %d times", what, n)
		}
	}
	d.onlyTheFileIsLeft(j, m)
}

// TestAStoreThatIsStuckFailsTheReport once it got no chunk done for as long as
// it may.
func TestAStoreThatIsStuckFailsTheReport(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.fill("c", 0, 3000)
	f := d.breakStore(func(what string, _ int) fault {
		if what == "00001" {
			return stuck
		}
		return none
	})
	d.cfg.GiveUp = 3e9
	d.start()
	j := d.create(spec("c", 3000))
	d.until(j.ID, "to be in trouble", func(j *report.Job) bool { return strings.Contains(j.Progress.Trouble, "object store") })
	j = d.until(j.ID, "to fail", func(j *report.Job) bool { return j.State == report.StateFailed })
	if !strings.Contains(j.Reason, "object store does not take writes") {
		t.Errorf("reason %q", j.Reason)
	}
	if n := f.begun("00001"); n != stallsToGiveUp {
		t.Errorf("tried %d times, want %d", n, stallsToGiveUp)
	}
}

// TestAChunkOfManyParts is larger than what an upload sends at once; the first
// attempt is given up when all but its end is there.
func TestAChunkOfManyParts(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.cfg.ChunkRows = 1_000_000
	d.fill("c", 0, 30_000)
	if err := d.conn.Exec(t.Context(), "INSERT INTO audit_events (id, customer_uuid, created_date, user_uuid, audit_comment, topic_id, kafka_partition, kafka_offset, retention_days) "+
		"SELECT generateUUIDv4(), 'large', '2026-01-01', 'u', concat('x', randomPrintableASCII(1000)), '"+someTopic.String()+"', 0, number, 20000 FROM numbers(30000)"); err != nil {
		t.Fatal(err)
	}
	f := d.breakStore(func(what string, nth int) fault {
		if what == "00000" && nth == 1 {
			return lost
		}
		return none
	})
	d.start()
	j := d.finished(d.create(spec("large", 30_000)).ID)
	file, m := d.download(j)
	if len(file) < 3*partBytes {
		t.Fatalf("%d bytes are one part", len(file))
	}
	d.wants(file, "large", 30_000)
	d.onlyTheFileIsLeft(j, m)
	if n := f.begun("00000"); n != 2 {
		t.Errorf("%d attempts, want 2", n)
	}
}
