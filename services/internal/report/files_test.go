package report

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/gcerrors"
)

// TestNoMessageHasThePassword of a store's URL; each says what to give.
func TestNoMessageHasThePassword(t *testing.T) {
	t.Parallel()
	for where, want := range map[string]string{
		"s3://jack:hunter2@bucket?region=us-east-1":    "credentials come from the environment",
		"s3://hunter2@bucket":                          "credentials come from the environment",
		"s3://jack:hunter2@bucket?nonsense=1":          "credentials come from the environment",
		"gs://jack:hunter2@bucket":                     "credentials come from the environment",
		"s3://jack:hunter2@bucket:port":                "cannot be parsed",
		"s3://jack:hunter2%zz@bucket":                  "cannot be parsed",
		"://jack:hunter2@bucket":                       "cannot be parsed",
		"gs://bucket":                                  "give s3://bucket?region=us-east-1, or a folder",
		"https://bucket.example.com/reports?x=hunter2": "give s3://bucket?region=us-east-1, or a folder",
	} {
		f, err := OpenFiles(t.Context(), FilesConfig{URL: where})
		if err == nil {
			f.Close()
			t.Errorf("%s was opened", where)
			continue
		}
		if msg := err.Error(); strings.Contains(msg, "hunter2") || !strings.Contains(msg, want) || !strings.HasPrefix(msg, "--report-store: ") {
			t.Errorf("%s: %s, want %q", where, msg, want)
		}
	}
}

// flaky is a store that lists, some times in the middle, what is gone.
type flaky struct {
	driver.Bucket
	names []string
	fails int
}

var errGone = errors.New("gone")

func (f *flaky) ErrorCode(err error) gcerrors.ErrorCode {
	if errors.Is(err, errGone) {
		return gcerrors.NotFound
	}
	return gcerrors.Unknown
}

func (*flaky) ErrorAs(error, any) bool { return false }

func (*flaky) Close() error { return nil }

func (f *flaky) ListPaged(_ context.Context, opts *driver.ListOptions) (*driver.ListPage, error) {
	p := &driver.ListPage{}
	for _, name := range f.names {
		if len(opts.PageToken) > 0 && name <= string(opts.PageToken) || !strings.HasPrefix(name, opts.Prefix) {
			continue
		}
		if f.fails > 0 && len(opts.PageToken) > 0 {
			f.fails--
			return nil, errGone
		}
		p.Objects, p.NextPageToken = []*driver.ListObject{{Key: name}}, []byte(name)
		return p, nil
	}
	return p, nil
}

func (f *flaky) Delete(_ context.Context, name string, _ *driver.DeleteOptions) error {
	i := slices.Index(f.names, name)
	if i < 0 {
		return errGone
	}
	f.names = slices.Delete(f.names, i, i+1)
	return nil
}

// TestAFolderThatChangesIsListedAgain, some times, and what do says is no reason
// to.
func TestAFolderThatChangesIsListedAgain(t *testing.T) {
	t.Parallel()
	job := uuid.New()
	dir := Dir(job)
	store := &flaky{names: []string{dir + "a", dir + "b", dir + "c", "z"}, fails: listTries - 1}
	f := &Files{blob.NewBucket(store)}
	defer f.Close()
	seen := map[string]bool{}
	if err := f.Each(t.Context(), dir, func(o *blob.ListObject) error { seen[o.Key] = true; return nil }); err != nil || len(seen) != 3 {
		t.Errorf("%v, %v", seen, err)
	}
	store.fails = listTries
	if err := f.Each(t.Context(), dir, func(*blob.ListObject) error { return nil }); !IsMissing(err) {
		t.Errorf("a folder that always changes: %v", err)
	}
	store.fails = 0
	calls := 0
	err := f.Each(t.Context(), dir, func(*blob.ListObject) error {
		calls++
		return f.bucket.Delete(t.Context(), "nothing")
	})
	if !IsMissing(err) || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
	store.fails = 2
	if err := f.Delete(t.Context(), job); err != nil || !slices.Equal(store.names, []string{"z"}) {
		t.Errorf("left: %v, %v", store.names, err)
	}
}

// TestDeleteOfAFolder deletes a job's objects, those of no other, and again.
func TestDeleteOfAFolder(t *testing.T) {
	t.Parallel()
	f, err := OpenFiles(t.Context(), FilesConfig{URL: filepath.Join(t.TempDir(), "new")})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mine, other := uuid.New(), uuid.New()
	for _, name := range []string{Dir(mine) + "a", Dir(mine) + "b", Dir(other) + "a"} {
		if err := f.bucket.WriteAll(t.Context(), name, []byte("x"), nil); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := f.Delete(t.Context(), mine); err != nil {
			t.Fatal(err)
		}
		var left []string
		if err := f.Each(t.Context(), "", func(o *blob.ListObject) error { left = append(left, o.Key); return nil }); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(left, []string{Dir(other) + "a"}) {
			t.Errorf("left: %v", left)
		}
	}
}
