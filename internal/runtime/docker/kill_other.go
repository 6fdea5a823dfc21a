//go:build !linux

package docker

import "errors"

// killWithoutEngine is for Linux only: elsewhere the engine is on another machine.
func (r *Runtime) killWithoutEngine(*Instance) error {
	return errors.New("its processes are not on this machine")
}
