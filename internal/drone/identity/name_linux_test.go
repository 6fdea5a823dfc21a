package identity_test

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/jetway-project/jetway/internal/drone/identity"
	"github.com/jetway-project/jetway/internal/testkit"
)

const asHolder = "TEST_NAME_HOLDER"

// TestHolder is the process that startHolder starts.
func TestHolder(t *testing.T) {
	name, dir, ok := strings.Cut(os.Getenv(asHolder), " ")
	if !ok {
		t.Skip("it is for other tests")
	}
	if _, err := identity.Take(name, dir, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	fmt.Println("held")
	select {}
}

// startHolder has another process hold a name.
func startHolder(t *testing.T, name, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestHolder$")
	cmd.Env = append(os.Environ(), asHolder+"="+name+" "+dir)
	said, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for lines := bufio.NewScanner(said); lines.Scan(); {
		if lines.Text() == "held" {
			return cmd
		}
	}
	t.Fatal("it ended")
	return nil
}

func TestI1OneAgentOfAMachineHasAName(t *testing.T) {
	t.Parallel()
	name, dir := newName(), t.TempDir()
	log := slog.New(slog.DiscardHandler)
	refused := func(words ...string) {
		t.Helper()
		// Who has the name has a second to say more of itself: on a slow machine it may need another one.
		testkit.Eventually(t, fmt.Sprintf("who is refused is told %q", words), func() bool {
			taken, err := identity.Take(name, t.TempDir(), log)
			if !errors.Is(err, identity.ErrNameTaken) {
				t.Fatalf("got %+v, %v", taken, err)
			}
			return !slices.ContainsFunc(append(words, name, "another name"), func(word string) bool { return !strings.Contains(err.Error(), word) })
		})
	}
	holder := startHolder(t, name, dir)
	pid := fmt.Sprintf("process %d", holder.Process.Pid)
	refused(pid, dir)
	refused(pid, dir)
	other, err := identity.Take(newName(), t.TempDir(), log)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Release(); err != nil {
		t.Fatal(err)
	}

	if err := holder.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	refused(pid, "stopped")
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = holder.Wait()
	for range 2 {
		mine, err := identity.Take(name, t.TempDir(), log)
		if err != nil {
			t.Fatal(err)
		}
		if err := mine.Release(); err != nil {
			t.Fatal(err)
		}
	}
}
