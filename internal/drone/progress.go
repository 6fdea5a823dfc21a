package drone

import (
	"context"
	"fmt"
	"strings"

	"github.com/jetway-project/jetway/messages"
)

const (
	// progressEveryMS lies between two reports of what the loading of a backend is at.
	progressEveryMS = 2000
	maxProgress     = 1 << 10
)

// progress is what the loading of a backend is at.
type progress struct {
	text string
	// unsent says that the text is yet to be reported, and atMS when one was.
	unsent bool
	atMS   int64
}

// progressed takes what the loading of a backend is at.
func (a *agent) progressed(_ context.Context, h *held, text string) {
	text = clean(text, maxProgress)
	a.mu.Lock()
	defer a.mu.Unlock()
	if text == "" || text == h.said.text {
		return
	}
	h.said.text, h.said.unsent = text, true
	a.progressLocked(h, a.nowMS())
}

// progressLocked reports it as the message of `loading`, now and then. The keeper
// sees to the last one.
func (a *agent) progressLocked(h *held, now int64) {
	if !h.said.unsent || h.status != messages.Loading || now < h.said.atMS+progressEveryMS {
		return
	}
	h.said.unsent, h.said.atMS = false, now
	if !h.disowned { // not journalled: the next run has something new to say
		a.reports.add(messages.Report{BackendID: h.id, State: messages.State{Status: messages.Loading, Message: h.said.text}}, 0)
	}
}

// tardyText says what a backend that was not ready in time was at.
func (a *agent) tardyText(h *held) string {
	limit := a.cfg.StartupTimeout
	switch h.status {
	case messages.Loading:
		if why := a.cannot(); why != "" {
			return fmt.Sprintf("it was not started within %s: %s", limit, why)
		}
		return withLast(fmt.Sprintf("it was still loading after %s", limit), "the last that it said", h.said.text)
	case messages.Starting:
		return fmt.Sprintf("it was not started within %s", limit)
	}
	text := fmt.Sprintf("it did not answer HTTP at %s within %s of its start", h.address, limit)
	if h.met != "" {
		text += ": " + h.met
	}
	return withLast(text, "its last output", h.lines.lastWords()...)
}

// withLast adds the last that was heard of a backend to a text, if there is something.
func withLast(text, what string, words ...string) string {
	last := strings.Join(words, "\n")
	if last == "" {
		return text
	}
	if text != "" {
		text += "; "
	}
	if len(words) == 1 {
		return text + what + ": " + last
	}
	return text + what + ":\n" + last
}
