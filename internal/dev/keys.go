package dev

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/jetway-project/jetway/internal/lease"
)

// tokenKeys finds or makes the stack's own key for static tokens.
func tokenKeys(data string) (*lease.Keys, error) {
	file := filepath.Join(data, "token-keys")
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		text = []byte(lease.NewKey() + "\n")
		if err = os.WriteFile(file+".new", text, 0o600); err == nil { // a crash leaves no half of one
			err = os.Rename(file+".new", file)
		}
	}
	keys := new(lease.Keys)
	if err == nil {
		err = keys.Replace(text)
	}
	if err != nil {
		return nil, fmt.Errorf("--data: the keys of static tokens, %s: %w", file, err)
	}
	return keys, nil
}
