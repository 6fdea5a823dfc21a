package docker

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// labelState has the number of the state directory: another drone that uses the same engine, for another stack, may have the
// same name, but not the same directory. What an earlier build started has no such label.
const labelState = labelPrefix + "state"

// stateNumber gives the number of a state directory, made when it is first used: random, for it lasts as long as the directory, and
// the directory's own number may be another one after a reboot.
func stateNumber(dir string) (string, error) {
	if dir == "" {
		return "", nil
	}
	path := filepath.Join(dir, "number")
	number, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(number) == 0 {
		number = []byte(strings.ToLower(rand.Text()))
		// Whole, or not at all: a disk may be full.
		if err = os.WriteFile(path+".new", number, 0o600); err == nil {
			err = os.Rename(path+".new", path)
		}
	}
	if err != nil {
		return "", fmt.Errorf("the number of the state directory: %w", err)
	}
	return string(number), nil
}

// others says of a container with this drone's name, by its labels, that it is another drone's.
func (r *Runtime) others(labels map[string]string) bool {
	state := labels[labelState]
	return state != "" && state != r.state
}
