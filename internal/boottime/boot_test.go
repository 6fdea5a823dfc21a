package boottime_test

import (
	"regexp"
	"testing"

	"github.com/jetway-project/jetway/internal/boottime"
)

func TestBootIDIsTheSameAllTheTime(t *testing.T) {
	t.Parallel()
	first, err := boottime.BootID()
	if err != nil {
		t.Fatal(err)
	}
	// The form of a session: what the protocol takes.
	if !regexp.MustCompile(`^[a-z0-9-]{1,45}$`).MatchString(first) {
		t.Fatalf("the boot's id is %q", first)
	}
	if second, err := boottime.BootID(); err != nil || second != first {
		t.Fatalf("first %q, then %q, %v", first, second, err)
	}
}
