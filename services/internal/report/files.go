package report

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	_ "gocloud.dev/blob/s3blob" // s3://
	"gocloud.dev/gcerrors"
)

// FilesConfig says where the files of reports are. Its tags are flags; see
// auditrail --help.
type FilesConfig struct {
	URL string `name:"report-store" help:"Where the files of reports are: a folder, or an S3 bucket as s3://bucket?region=us-east-1 (also endpoint=https://..., use_path_style=true; credentials come from the environment, as the AWS SDK has it). The same for query and reporter." default:"./reports"`
}

// Files are the objects of reports. Safe for concurrent use.
type Files struct{ bucket *blob.Bucket }

// OpenFiles opens the store. The caller closes it.
func OpenFiles(ctx context.Context, cfg FilesConfig) (*Files, error) {
	b, err := openBucket(ctx, cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("--report-store: %w", err)
	}
	return &Files{b}, nil
}

func openBucket(ctx context.Context, where string) (*blob.Bucket, error) {
	if strings.Contains(where, "://") {
		if err := checkURL(where); err != nil {
			return nil, err
		}
		return blob.OpenBucket(ctx, where)
	}
	dir, err := filepath.Abs(where)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// An object appears whole or not at all: it is written beside, and renamed.
	return fileblob.OpenBucket(dir, &fileblob.Options{NoTempDir: true, Metadata: fileblob.MetadataDontWrite, DirFileMode: 0o700})
}

// checkURL refuses what the opener's errors would repeat, be it a password.
func checkURL(where string) error {
	u, err := url.Parse(where)
	switch {
	case err != nil: // it quotes the URL
		return errors.New("the URL cannot be parsed: give s3://bucket?region=us-east-1, or a folder")
	case u.User != nil:
		return errors.New("the URL has a user or a password: leave them out, credentials come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)")
	case !blob.DefaultURLMux().ValidBucketScheme(u.Scheme):
		return fmt.Errorf("no store is known by %q: give s3://bucket?region=us-east-1, or a folder", u.Scheme+"://")
	}
	return nil
}

// Close ends the use of the store.
func (f *Files) Close() error { return f.bucket.Close() }

// Bucket is the store itself, for whoever writes to it.
func (f *Files) Bucket() *blob.Bucket { return f.bucket }

// Dir is what the names of a job's objects begin with.
func Dir(job uuid.UUID) string { return job.String() + "/" }

// ChunkObject is the name of a chunk. Each attempt of each epoch writes an object
// of its own: what the owner before still writes is never what a manifest names,
// and what an attempt wrote stays as the table has it.
func ChunkObject(s *Spec, n int, epoch Epoch, attempt int) string {
	return fmt.Sprintf("%s%05d-%s-%d%s", Dir(s.Job), n, epoch, attempt, s.Suffix())
}

// PartObject is the name of what stands before or behind the chunks, such as
// header, footer and manifest.
func PartObject(s *Spec, what string, epoch Epoch, attempt int, suffix string) string {
	return fmt.Sprintf("%s%s-%s-%d%s", Dir(s.Job), what, epoch, attempt, suffix)
}

// Suffix is how names of the report's files end, such as ".csv.gz".
func (s *Spec) Suffix() string {
	switch s.Compression {
	case Gzip:
		return "." + string(s.Format) + ".gz"
	case Zstd:
		return "." + string(s.Format) + ".zst"
	case None:
	}
	return "." + string(s.Format)
}

// ErrDamaged says of what is stored that it is not what the job's records say.
var ErrDamaged = errors.New("what is stored is not what the report's records say")

// Manifest reads that of a finished job, and returns its bytes, too. The error is
// a gcerrors.NotFound when there is none, and wraps ErrDamaged when it is not the
// job's.
func (f *Files) Manifest(ctx context.Context, j *Job) (*Manifest, []byte, error) {
	from, err := f.Read(ctx, j.End.Manifest, 0, -1)
	if err != nil {
		return nil, nil, err
	}
	defer from.Close() //nolint:errcheck // only read
	raw, err := io.ReadAll(io.LimitReader(from, maxManifest+1))
	if err != nil {
		return nil, nil, err
	}
	m, err := ReadManifest(bytes.NewReader(raw))
	if err == nil {
		err = m.isOf(j, raw)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: manifest %s: %w", ErrDamaged, j.End.Manifest, err)
	}
	return m, raw, nil
}

// Read returns n bytes of an object from offset on; n below 0: to its end.
func (f *Files) Read(ctx context.Context, object string, offset, n int64) (io.ReadCloser, error) {
	if n == 0 { // S3 refuses a range of an empty object
		return io.NopCloser(strings.NewReader("")), nil
	}
	r, err := f.bucket.NewRangeReader(ctx, object, offset, n, nil)
	if err != nil {
		return nil, err // r is nil, and would not be one as an interface
	}
	return r, nil
}

// IsMissing says that an object is not there.
func IsMissing(err error) bool { return gcerrors.Code(err) == gcerrors.NotFound }

// Delete deletes all objects of a job. What somebody still writes may come after
// it.
func (f *Files) Delete(ctx context.Context, job uuid.UUID) error {
	return f.Each(ctx, Dir(job), func(o *blob.ListObject) error { return f.DeleteObject(ctx, o.Key) })
}

// DeleteObject deletes one object, if it is there.
func (f *Files) DeleteObject(ctx context.Context, object string) error {
	if err := f.bucket.Delete(ctx, object); err != nil && !IsMissing(err) {
		return err
	}
	return nil
}

// listTries is how often a folder is listed that changes meanwhile.
const listTries = 5

// Each calls do with the objects whose names begin with prefix, in their order,
// with some twice perhaps: a folder is listed while files are renamed and
// deleted. It ends with the first error of do.
func (f *Files) Each(ctx context.Context, prefix string, do func(*blob.ListObject) error) error {
	for tries := 1; ; tries++ {
		listing, err := f.each(ctx, prefix, do)
		if !listing || !IsMissing(err) || tries == listTries {
			return err
		}
	}
}

// each is Each, once; listing says that the error is of that.
func (f *Files) each(ctx context.Context, prefix string, do func(*blob.ListObject) error) (listing bool, err error) {
	all := f.bucket.List(&blob.ListOptions{Prefix: prefix})
	for {
		o, err := all.Next(ctx)
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return true, err
		}
		if err := do(o); err != nil {
			return false, err
		}
	}
}
