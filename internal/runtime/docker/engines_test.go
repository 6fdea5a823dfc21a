package docker_test

import (
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

// isBoundless says that the engine cannot limit what containers use.
func (s *stage) isBoundless() bool {
	s.t.Helper()
	about, err := s.engine.Info(s.t.Context(), client.InfoOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	return about.Info.CgroupVersion == "1" && strings.Contains(strings.Join(about.Info.SecurityOptions, " "), "rootless")
}
