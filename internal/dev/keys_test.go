package dev

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The demand: a stack makes its key for static tokens once, closed to others, so that the next run of the directory opens what this one has sealed; a
// damaged file is said, with its name.
func TestAStackKeepsItsTokenKey(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	first, err := tokenKeys(data)
	if err != nil {
		t.Fatal(err)
	}
	second, err := tokenKeys(data)
	if err != nil || len(first.IDs()) != 1 || !slices.Equal(first.IDs(), second.IDs()) {
		t.Errorf("the keys are %v, and in the next run %v, %v", first.IDs(), second.IDs(), err)
	}
	file := filepath.Join(data, "token-keys")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
	if err := os.WriteFile(file, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tokenKeys(data); err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "line 1 is no key") {
		t.Errorf("a damaged file: %v", err)
	}
}
