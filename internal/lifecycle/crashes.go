package lifecycle

import (
	"strconv"
	"strings"

	"github.com/jetway-project/jetway/messages"
)

const (
	// crashWithin: who ends by itself when it has been ready for less has failed.
	crashWithin = 10 // seconds
	// forgivenAfter: a life that was ready for so long forgives all failures before it.
	forgivenAfter = 60 // seconds
	// free is how many failures in a row cost nothing. The next makes the key rest for minRest, each after it for twice as long.
	free    = 2
	minRest = 1   // seconds
	maxRest = 300 // seconds
)

// Crashed says whether a life that is over was a failure: it ended by itself before it was ready or soon after, or could not be started
// at all. What somebody ended, what was lost, what found no room and what is the drone's fault are none. readyFor is for how many seconds it was ready.
func (b *Backend) Crashed(readyFor float64) bool {
	switch {
	case b.Reason == messages.ReasonStartupTimeout:
		return true
	case b.Asked != NotAsked:
		return false
	case b.Reason == messages.ReasonStartFailed:
		return true
	}
	return b.Reason == "" && b.Kind == "" && readyFor < crashWithin
}

// Failures gives how often in a row a key's lives have failed after one more life, which was ready for so many seconds, and for how many seconds the key rests.
func Failures(before int, crashed bool, readyFor float64) (failures, rest int) {
	switch {
	case readyFor >= forgivenAfter:
		return 0, 0
	case !crashed:
		return before, 0
	}
	failures, rest = before+1, minRest
	if failures <= free {
		return failures, 0
	}
	for n := free + 1; n < failures && rest < maxRest; n++ {
		rest *= 2
	}
	return failures, min(rest, maxRest)
}

// LastWords says how a backend ended that has failed.
func (b *Backend) LastWords() string {
	var words []string
	if b.ExitCode != nil && !strings.Contains(b.Message, "exit code") {
		words = append(words, "exit code "+strconv.Itoa(*b.ExitCode))
	}
	if b.Message != "" {
		words = append(words, b.Message)
	}
	text := strings.Join(words, ": ")
	if text == "" {
		text = "it ended as " + b.LastStatus.String()
	}
	return strings.ToValidUTF8(text[:min(len(text), messages.MaxLastWords)], "")
}
