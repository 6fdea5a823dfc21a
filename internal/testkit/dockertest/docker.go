// Package dockertest gives tests a container engine: the one that answers, one of their own that they can do anything to, or Podman.
package dockertest

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/jetway-project/jetway/internal/testkit"
)

// dockerAnswers asks the engine of DOCKER_HOST, or of the usual socket, once.
var dockerAnswers = sync.OnceValue(func() error {
	if os.Getenv("JETWAY_TEST_DOCKER") == "off" {
		return errors.New("JETWAY_TEST_DOCKER=off")
	}
	engine, err := client.New(client.FromEnv)
	if err != nil {
		return err
	}
	defer engine.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err = engine.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true})
	return err
})

// Needs leaves a test out where no Docker engine answers, or where JETWAY_TEST_DOCKER
// is off.
func Needs(t testing.TB) {
	t.Helper()
	if err := dockerAnswers(); err != nil {
		t.Log(err)
		testkit.LeaveOut(t, "tests of the Docker runtime: no Docker engine answers", "install docker.io, or set DOCKER_HOST")
	}
}
