package boottime

import (
	"errors"
	"fmt"
	"strings"
)

// BootID returns the kernel's id of this boot, a UUID in lower case, which is another one
// after each start of the system. Only readings of [Now] with the same id can be compared.
// It returns an error when the kernel does not tell.
func BootID() (string, error) {
	id, err := bootID()
	if id = strings.ToLower(strings.TrimSpace(id)); err == nil && id == "" {
		err = errors.New("the kernel gives an empty one")
	}
	if err != nil {
		return "", fmt.Errorf("read the boot's id: %w", err)
	}
	return id, nil
}
