//go:build !linux

package proxy

import "errors"

// loop is there on Linux only: elsewhere each way has its goroutine.
type loop struct{}

type seat struct{}

func newLoop() (*loop, error)     { return nil, errors.ErrUnsupported }
func (l *loop) run()              {}
func (l *loop) end()              {}
func (l *loop) join(*splice) bool { return false }
func (s *splice) leaveLoop()      {}
