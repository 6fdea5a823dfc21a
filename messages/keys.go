package messages

import (
	"slices"
	"time"
)

// SubjectKeys is asked by operators and web tiers ([KeysRequest]).
const SubjectKeys = "jetway.ctl.keys"

// KeyState is how a key stands.
type KeyState string

// The states of keys.
const (
	KeyLive       KeyState = "live"        // a backend holds it
	KeyAsleep     KeyState = "asleep"      // a backend holds it that sleeps
	KeyDormant    KeyState = "dormant"     // nobody holds it, and who visits its URL starts it again
	KeyBackingOff KeyState = "backing-off" // nobody holds it, and it rests, for its backends have failed; it may be dormant, too
)

// KeyStates are all of them.
var KeyStates = []KeyState{KeyLive, KeyAsleep, KeyDormant, KeyBackingOff}

// KeysRequest lists keys by namespace and name: those that a backend holds, that are dormant, or that rest. Each of the other fields that is
// given leaves out those of which it does not hold.
type KeysRequest struct {
	// Namespace are those of a namespace, which may be "".
	Namespace *string `json:"namespace,omitempty"`
	// Prefix is what names begin with; Search is what they contain. Both mind upper and lower case.
	Prefix string `json:"prefix,omitempty"`
	Search string `json:"search,omitempty"`
	// States are those in one of these.
	States []KeyState `json:"states,omitempty"`
	// After is the last key of the page before; its tag says nothing.
	After *Key `json:"after,omitempty"`
	// Limit is 1 to MaxPage; 0 is MaxPage.
	Limit int `json:"limit,omitempty"`
}

// KeysResponse is one page. It may have fewer keys than were asked for, also none, and not be the last.
type KeysResponse struct {
	Keys []KeyInfo `json:"keys"`
	// Next is the After of the next page; left out of the last.
	Next *Key `json:"next,omitempty"`
}

// KeyInfo is what Postgres knows of a key.
type KeyInfo struct {
	Key   Key      `json:"key"`
	State KeyState `json:"state"`
	// BackendID is the backend that holds the key, or held it last, which may be forgotten. Status and Drone are that backend's.
	BackendID string `json:"backend_id"`
	Status    Status `json:"status"`
	Drone     string `json:"drone,omitempty"`
	// Since is when the key was acquired, or released, or when its backend fell asleep.
	Since time.Time `json:"since"`
	// ResumeSeconds is for how long the key is dormant once its backend has ended; left out: not at all.
	ResumeSeconds *int64 `json:"resume_seconds,omitempty"`
	// DormantUntil is until when it is dormant, if it is.
	DormantUntil *time.Time `json:"dormant_until,omitempty"`
	// Crashes are the failures of its backends in a row; left out: none.
	Crashes *Crashes `json:"crashes,omitempty"`
}

func (r *KeysRequest) validate() *Error {
	if r.Namespace != nil {
		if err := checkText("namespace", *r.Namespace, MaxName); err != nil {
			return err
		}
	}
	if err := checkText("prefix", r.Prefix, MaxName); err != nil {
		return err
	}
	if err := checkText("search", r.Search, MaxName); err != nil {
		return err
	}
	if len(r.States) > len(KeyStates) {
		return badField("states", "are %d, and there are only %d", len(r.States), len(KeyStates))
	}
	for _, s := range r.States {
		if !slices.Contains(KeyStates, s) {
			return badField("states", "%.40q is none: there are live, asleep, dormant and backing-off", string(s))
		}
	}
	if r.After != nil {
		if err := r.After.validate(); err != nil {
			return badField("after", "must be a key: %s", err.Message)
		}
	}
	if r.Limit < 0 || r.Limit > MaxPage {
		return badField("limit", "must be 1 to %d", MaxPage)
	}
	if r.Limit == 0 {
		r.Limit = MaxPage
	}
	return nil
}
