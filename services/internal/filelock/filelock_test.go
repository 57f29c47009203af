package filelock

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestOneHolderAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, err := Take(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Take(path, 0); err == nil || !strings.Contains(err.Error(), "--data-dir") || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Errorf("the second holder got %v, want who has it and what to do", err)
	}
	l.Release()
	again, err := Take(path, 0)
	if err != nil {
		t.Fatalf("after the release: %v", err)
	}
	again.Release()
}

func TestWait(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, err := Wait(t.Context(), path, func() { t.Error("waits for a free lock") })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := Wait(ctx, path, cancel); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	told := 0
	l, err = Wait(t.Context(), path, func() { told++; l.Release() })
	if err != nil || told != 1 {
		t.Fatalf("%v, told %d times", err, told)
	}
	l.Release()
}
