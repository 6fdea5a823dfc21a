//go:build !linux

package docker_test

import "errors"

func becomeEngine(string) error { return errors.New("only on Linux") }
