package filelock

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestOneHolderAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, err := Take(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Take(path); err == nil || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("the second holder got %v, want what to do", err)
	}
	l.Release()
	again, err := Take(path)
	if err != nil {
		t.Fatalf("after the release: %v", err)
	}
	again.Release()
}
