package docker_test

import (
	"os"
	"strings"

	"github.com/moby/moby/client"
)

// isPodman says that the engine is Podman, whose answers differ here and there.
func (s *stage) isPodman() bool {
	s.t.Helper()
	version, err := s.engine.ServerVersion(s.t.Context(), client.ServerVersionOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	return len(version.Components) > 0 && strings.Contains(version.Components[0].Name, "Podman")
}

// isBoundless says that the engine cannot limit what containers use: that of the user whom the
// tests run as, where only root may.
func (s *stage) isBoundless() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return os.Geteuid() != 0 && err != nil && s.isPodman()
}
