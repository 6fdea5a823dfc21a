package process

import (
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/procs"
)

// sentry watches over a control group that is frozen; the zero value over none.
type sentry struct {
	events *os.File
	id     int32
}

// freeze stops all in the pen where it is. thawed is called once, should somebody else thaw it; where the pen
// is no control group, nobody tells.
func (b body) freeze(thawed func()) (sentry, error) {
	if b.group == nil {
		return sentry{}, b.stop()
	}
	events, err := b.group.Events()
	if err != nil {
		return sentry{}, err
	}
	if err := b.group.Freeze(); err != nil {
		_ = events.Close()
		return sentry{}, err
	}
	s := sentry{events: events}
	s.id, err = b.r.poller.add(int(events.Fd()), true, func(bool) (again bool, _ time.Time) {
		if b.group.Frozen() {
			return true, time.Time{}
		}
		b.r.watching.Go(thawed)
		return false, time.Time{}
	})
	if err != nil {
		_ = events.Close()
		return sentry{}, errors.Join(err, b.group.Thaw())
	}
	return s, nil
}

// thaw has all in the pen go on.
func (b body) thaw() error {
	if b.group != nil {
		return b.group.Thaw()
	}
	return b.toAll(unix.SIGCONT)
}

// looks is how often is looked for more processes that SIGSTOP has not reached: one may fork as it is looked.
const looks = 3

// stop stops all that carries the backend's labels.
func (b body) stop() error {
	for range looks {
		if err := b.toAll(unix.SIGSTOP); err != nil {
			return errors.Join(err, b.toAll(unix.SIGCONT))
		}
	}
	return nil
}

// toAll signals the process group, and what has left it.
func (b body) toAll(signal syscall.Signal) error {
	err := b.signal(signal)
	census, lookErr := b.r.census.take(0)
	for _, process := range census[b.backendID] {
		if ref, err := procs.Open(process); err == nil {
			_ = ref.Signal(signal) // what is gone needs none
			ref.Close()
		}
	}
	return errors.Join(err, lookErr)
}

// stand ends the watch.
func (s sentry) stand(p *poller) {
	if s.events != nil {
		p.forget(s.id, int(s.events.Fd()))
		_ = s.events.Close()
	}
}

// reclaim has the kernel hand back memory of the pen.
func (b body) reclaim(bytes uint64) (got uint64, more bool, err error) {
	if b.group == nil {
		return 0, false, nil
	}
	return b.group.Reclaim(bytes)
}
