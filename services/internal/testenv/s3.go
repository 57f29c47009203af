package testenv

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// s3Env names the program of an S3 store, versitygw; make test-s3 builds and
// sets it. Empty: tests keep objects in folders.
const s3Env = "AUDITRAIL_TEST_S3"

// The store's one user, and its one bucket.
const (
	s3User, s3Secret = "auditrail", "auditrail-secret"
	s3Bucket         = "reports"
)

// s3Start bounds the start of a store on a busy machine.
const s3Start = 30 * time.Second

// OnS3 says that tests keep objects in an S3 store.
func OnS3() bool { return os.Getenv(s3Env) != "" }

var s3Credentials = sync.OnceValue(func() error {
	if err := os.Setenv("AWS_ACCESS_KEY_ID", s3User); err != nil {
		return err
	}
	return os.Setenv("AWS_SECRET_ACCESS_KEY", s3Secret)
})

// ObjectStore is an empty object store of a test's own, as --report-store has
// it: a folder, or a bucket of an S3 store that ends with the test.
func ObjectStore(t testing.TB) string {
	t.Helper()
	if !OnS3() {
		return t.TempDir()
	}
	if err := s3Credentials(); err != nil {
		t.Fatal(err)
	}
	addr, err := FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, of := range []string{"objects/" + s3Bucket, "about"} { // a folder is a bucket
		if err := os.MkdirAll(filepath.Join(dir, of), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	c := &Command{Log: filepath.Join(dir, "log")}
	t.Cleanup(func() {
		c.Kill()
		if t.Failed() {
			words, _ := os.ReadFile(c.Log)
			t.Logf("log of the S3 store:\n%s", words[max(0, len(words)-10_000):])
		}
	})
	if err := c.Start(os.Getenv(s3Env), "--access", s3User, "--secret", s3Secret, "--port", addr, "--health", "/health",
		"posix", "--sidecar", filepath.Join(dir, "about"), filepath.Join(dir, "objects")); err != nil {
		t.Fatal(err)
	}
	Until(t, s3Start, c.Ended(), "the S3 store", func() (bool, string) {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+addr+"/health", nil)
		if err != nil {
			return false, err.Error()
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return false, err.Error()
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK, res.Status
	})
	return fmt.Sprintf("s3://%s?region=us-east-1&endpoint=http://%s&use_path_style=true", s3Bucket, addr)
}
