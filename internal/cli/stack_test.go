package cli

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"testing"

	"github.com/jetway-project/jetway/internal/dev"
	"github.com/jetway-project/jetway/internal/testkit"
)

// shared is what tests have together: what is dear and holds nothing of theirs that another
// would see, for each has a drone and keys of its own. The first that asks makes it.
var shared struct {
	room  sync.Once
	root  string // directory of room
	stack sync.Once
	data  string
	runs  *dev.Stack

	rootErr, stackErr error
}

// roomRoot gives the directory of the demo backend, linked statically.
func roomRoot(t *testing.T) string {
	t.Helper()
	shared.room.Do(func() {
		if shared.root, shared.rootErr = os.MkdirTemp("", "jetway-cli-room-"); shared.rootErr == nil {
			shared.rootErr = testkit.Build(context.Background(), shared.root, "github.com/jetway-project/jetway/cmd/room")
		}
	})
	if shared.rootErr != nil {
		t.Fatal(shared.rootErr)
	}
	return shared.root
}

// sharedStack gives a stack with a drone in no pool, whose runtime is the fake one.
func sharedStack(t *testing.T) *dev.Stack {
	t.Helper()
	shared.stack.Do(func() {
		if shared.data, shared.stackErr = testkit.StackData(); shared.stackErr == nil {
			log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
			shared.runs, shared.stackErr = dev.Start(context.Background(), dev.Config{Data: shared.data, Runtime: dev.RuntimeFake, Log: log})
		}
	})
	if shared.stackErr != nil {
		t.Fatal(shared.stackErr)
	}
	return shared.runs
}

// endShared ends it when all tests have.
func endShared() (err error) {
	if shared.runs != nil {
		err = shared.runs.Stop(context.Background())
	}
	return errors.Join(err, os.RemoveAll(shared.data), os.RemoveAll(shared.root))
}

// stackData is a data directory for a stack.
func stackData(t *testing.T) string {
	t.Helper()
	dir, err := testkit.StackData()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
