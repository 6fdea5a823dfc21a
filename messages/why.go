package messages

import (
	"encoding/json"
	"strings"
)

// TerminationCause says what led to a backend's end, where the reason that its drone was told leaves that open. A reader
// must expect causes that it does not know.
type TerminationCause string

// The causes.
const (
	CauseIdle      TerminationCause = "idle"      // nobody was connected for as long as max_idle_seconds
	CauseLifetime  TerminationCause = "lifetime"  // lifetime_limit_seconds are over
	CauseAsked     TerminationCause = "asked"     // somebody asked: see State.By
	CauseStartup   TerminationCause = "startup"   // the workers waited for it to get ready, longer than drones should take
	CauseDrained   TerminationCause = "drained"   // its drone drained for as long as the operator gave it
	CauseShutdown  TerminationCause = "shutdown"  // its drone was shut down
	CauseMachine   TerminationCause = "machine"   // its drone's machine is being shut down
	CauseUnrenewed TerminationCause = "unrenewed" // no worker renewed its lease in time: the words say why, as its drone saw it

	// Those of lost leases.
	CauseDroneSilent   TerminationCause = "drone-silent"   // its drone was not heard for as long as a lease lives
	CauseDroneReplaced TerminationCause = "drone-replaced" // another machine, or this one started anew, has its drone's name
	CauseDroneForgot   TerminationCause = "drone-forgot"   // its drone's agent began anew and does not run it
	CauseRestored      TerminationCause = "restored"       // the database was restored or failed over, and no drone has said that it runs it
	CauseStuck         TerminationCause = "stuck"          // it was to end and did not in time, and its lease was renewed no more
	CauseKeyTaken      TerminationCause = "key-taken"      // another backend has its key
)

const (
	// MaxWhy is the most bytes of Why.Words.
	MaxWhy = 1024
	// maxCause is the most bytes of a cause.
	maxCause = 45
	// maxRuns is about the most bytes of what a backend runs.
	maxRuns = 200
)

// Why is what is known of a backend's end, besides what its drone was told.
type Why struct {
	// Cause is there as soon as the backend was asked to end.
	Cause TerminationCause `json:"termination_cause,omitempty"`
	// By is who asked, as he calls himself.
	By string `json:"termination_by,omitempty"`
	// Words say it to people.
	Words string `json:"termination_why,omitempty"`
}

func (w *Why) validate() *Error {
	if err := checkText("termination_cause", string(w.Cause), maxCause); err != nil {
		return err
	}
	if err := checkText("termination_by", w.By, MaxName); err != nil {
		return err
	}
	return checkText("termination_why", w.Words, MaxWhy)
}

// Runs says in a few words what an executable runs: its image, or its command. It is "" for one that has neither. Variables,
// which may be secrets, are not in it.
func Runs(executable json.RawMessage) string {
	var known struct {
		Image   json.RawMessage `json:"image"`
		Command json.RawMessage `json:"command"`
	}
	if ReadJSON(executable, &known, false) != nil {
		return ""
	}
	var image string
	var command []string
	if json.Unmarshal(known.Image, &image) != nil || image == "" {
		if json.Unmarshal(known.Command, &command) != nil {
			return ""
		}
		image = strings.Join(command, " ")
	}
	image = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, image)
	if len(image) > maxRuns {
		image = strings.ToValidUTF8(image[:maxRuns], "") + "…"
	}
	return image
}
