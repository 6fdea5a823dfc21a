package worker

import (
	"log/slog"
	"sync"
	"time"
)

// sayEvery is how often the log says what may happen to every one of very many requests: who asks too much must
// not fill the log too.
const sayEvery = time.Second

// tally counts what happens to requests until it is said.
type tally struct {
	what string
	log  *slog.Logger

	mu      sync.Mutex
	count   int
	subject string
	id      string
	err     error
	timer   *time.Timer // runs while count is not 0
}

// add counts one, which stands for all in the log: its id is "" where none was given.
func (o *tally) add(subject, id string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.count++
	o.subject, o.id, o.err = subject, id, err
	if o.count == 1 {
		o.timer = time.AfterFunc(sayEvery, o.say)
	}
}

// say logs what has been counted. It is called once more when the worker ends.
func (o *tally) say() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.count == 0 {
		return
	}
	o.timer.Stop()
	o.log.Warn(o.what, "requests", o.count, "subject", o.subject, "id", o.id, "err", o.err)
	o.count = 0
}
