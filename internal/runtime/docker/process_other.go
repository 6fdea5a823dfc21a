//go:build !linux

package docker

import "github.com/moby/moby/api/types/container"

// hold is for Linux only: elsewhere the engine's processes are in a machine of its own.
func (r *Runtime) hold(int, *Instance) process { return nil }

func near(string) bool { return false }

func isGone(int) bool { return false }

func boundless(string) bool { return false }

func ownLimits() []*container.Ulimit { return nil }
