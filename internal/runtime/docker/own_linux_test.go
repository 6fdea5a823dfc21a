package docker_test

import (
	"testing"

	"github.com/moby/moby/client"

	"github.com/jetway-project/jetway/internal/testkit/dockertest"
)

// ownEngine is an engine of a test's own, with the image "odd".
type ownEngine struct {
	*client.Client
	*dockertest.Engine
}

// ownNetwork is testkit's, where Docker is to be tested.
func ownNetwork(t *testing.T) bool {
	t.Helper()
	dockertest.Needs(t)
	if _, err := program("odd"); err != nil { // it is built once
		t.Fatal(err)
	}
	return dockertest.Network(t)
}

// newEngine starts an engine in a network of its own.
func newEngine(t *testing.T, dataRoot string, args ...string) *ownEngine {
	t.Helper()
	e := &ownEngine{Engine: dockertest.NewEngine(t, dataRoot, args...)}
	odd, err := program("odd")
	if err != nil {
		t.Fatal(err)
	}
	if e.Client, err = client.New(client.WithHost(e.Host)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	if err := importImage(t.Context(), e.Client, "odd", "odd", odd, 0o755, imageChanges["odd"]); err != nil {
		t.Fatal(err)
	}
	return e
}

// fields are what an executable needs on this engine.
func (e *ownEngine) fields(more ...any) []any {
	return append([]any{"image", "odd"}, more...)
}
