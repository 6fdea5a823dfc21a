//go:build !linux

package proxy

import (
	"errors"
	"net"
	"net/netip"
	"time"
)

// loop is there on Linux only: elsewhere each way has its goroutine, and all requests are net/http's.
type loop struct{}

type seat struct{}

type errand struct{}

func newLoop(*Proxy) (*loop, error)             { return nil, errors.ErrUnsupported }
func (l *loop) run()                            {}
func (l *loop) end()                            {}
func (l *loop) join(*splice) bool               { return false }
func (l *loop) admit(net.Conn, netip.Addr) bool { return false }
func (l *loop) release(place) net.Conn          { return nil }
func (l *loop) sweepCallees(time.Time)          {}
func (l *loop) sweepCallers(time.Time)          {}
func (l *loop) clear()                          {}
func (s *splice) leaveLoop()                    {}
func (e *errand) abort() bool                   { return false }
