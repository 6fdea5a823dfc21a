package cli

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"testing"

	"github.com/jetway-project/jetway/internal/dev"
	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
)

// shared is what tests have together: what is dear and holds nothing of theirs that another
// would see, for each has a drone and keys of its own. The first that asks makes it.
var shared struct {
	room    sync.Once
	root    string // directory of room
	rootErr error

	lasting, brief sharedDev
}

// sharedDev is a stack that tests share.
type sharedDev struct {
	once sync.Once
	data string
	runs *dev.Stack
	err  error
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
	return shared.lasting.get(t, lease.DefaultTerms)
}

// briefStack is such a stack for what waits until a lease ends, which is soon, but not before a slow machine has got there.
func briefStack(t *testing.T) *dev.Stack {
	t.Helper()
	return shared.brief.get(t, lease.Terms{TTL: testkit.Patience / 12}) // 15 s
}

func (s *sharedDev) get(t *testing.T, terms lease.Terms) *dev.Stack {
	t.Helper()
	s.once.Do(func() {
		if s.data, s.err = pgtest.StackData(); s.err == nil {
			log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
			s.runs, s.err = dev.Start(context.Background(), dev.Config{Data: s.data, Runtime: dev.RuntimeFake, Terms: terms, Log: log})
		}
	})
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.runs
}

// endShared ends it when all tests have.
func endShared() (err error) {
	for _, s := range []*sharedDev{&shared.lasting, &shared.brief} {
		if s.runs != nil {
			err = errors.Join(err, s.runs.Stop(context.Background()))
		}
		err = errors.Join(err, os.RemoveAll(s.data))
	}
	return errors.Join(err, os.RemoveAll(shared.root))
}

// stackData is a data directory for a stack.
func stackData(t *testing.T) string {
	t.Helper()
	dir, err := pgtest.StackData()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
