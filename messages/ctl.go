package messages

import (
	"slices"
	"strings"
	"time"
)

// TerminateRequest ends a backend; again is no error, and neither is one that has ended.
type TerminateRequest struct {
	BackendID string `json:"backend_id,omitempty"`
	// Key names the backend that holds a key instead; its tag is not compared. Of a dormant key, which no backend holds, there is nothing to end.
	Key  *Key `json:"key,omitempty"`
	Hard bool `json:"hard,omitempty"`
	// Forget has the key be forgotten: nothing is kept to start it again, and its static token leads nowhere once the backend has ended. Of a
	// backend that was not the last to hold its key, there is nothing to forget.
	Forget bool `json:"forget,omitempty"`
	// By is who asks, and Reason why, for whoever wants to know later: they are kept with the backend and
	// told with its states.
	By     string `json:"by,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// maxReason is the most bytes of a TerminateRequest's reason: what is said of it beside has room.
const maxReason = 500

// RevokeRequest makes connection tokens of a backend lead nowhere: those of a user
// (which may be "", the one of connects that name none), or one token, or both where
// they agree. At least one is needed. A static token lives as long as its backend.
type RevokeRequest struct {
	BackendID string  `json:"backend_id"`
	User      *string `json:"user,omitempty"`
	Token     string  `json:"token,omitempty"`
}

// RevokeResponse says how many tokens there were; 0 is no error.
type RevokeResponse struct {
	Revoked int `json:"revoked"`
}

// DrainRequest has a drone be given no more backends, or, sent to [SubjectUndrain],
// be given some again. Again is no error.
type DrainRequest struct {
	Drone string `json:"drone"`
	// EndAfterSeconds, if given, has the workers end softly, so many seconds from now, what the drone
	// still runs then; 0 is at once. Left out, an earlier word on that stands until the drone is undrained.
	EndAfterSeconds *int64 `json:"end_after_seconds,omitempty"`
}

// ForgetRequest has a lost drone be forgotten, with all that is on record for it.
type ForgetRequest struct {
	Drone string `json:"drone"`
}

// DrainResponse says how many backends the drone has that have not ended.
type DrainResponse struct {
	Backends int `json:"backends"`
	// EndInSeconds is in how many seconds the workers end those that are left, 0: now; left out where nobody said when.
	EndInSeconds *int64 `json:"end_in_seconds,omitempty"`
}

// StatusRequest asks for one backend.
type StatusRequest struct {
	BackendID string `json:"backend_id,omitempty"`
	// Key asks for the backend that holds a key, or held it last, instead; its tag is not compared.
	Key *Key `json:"key,omitempty"`
}

// BackendInfo is what Postgres knows of a backend.
type BackendInfo struct {
	BackendID string `json:"backend_id"`
	Key       Key    `json:"key"`
	Cluster   string `json:"cluster"`
	Pool      string `json:"pool,omitempty"`
	Drone     string `json:"drone"`
	// FencingToken is the one of the backend's own lease, also after another backend has acquired the key.
	FencingToken int64     `json:"fencing_token,omitempty"`
	Subdomain    string    `json:"subdomain,omitempty"`
	CreatedAt    time.Time `json:"created_at"`
	// ChangedAt is when the status last changed.
	ChangedAt time.Time `json:"changed_at"`
	// EndedAt is when it was terminated.
	EndedAt *time.Time `json:"ended_at,omitempty"`
	// LastUsedAt is when somebody was last connected, or joined, as far as proxies have said; nil: never.
	LastUsedAt *time.Time `json:"last_used_at,omitempty"`
	// Its limits, as its connect set them; left out: none.
	LifetimeEndsAt *time.Time `json:"lifetime_ends_at,omitempty"`
	MaxIdleSeconds *int64     `json:"max_idle_seconds,omitempty"`
	// SleepAfterSeconds and SleepIgnoresIdleConnections are as its connect set them.
	SleepAfterSeconds           *int64 `json:"sleep_after_seconds,omitempty"`
	SleepIgnoresIdleConnections bool   `json:"sleep_ignores_idle_connections,omitempty"`
	// Nap counts its changes between awake and asleep; ReclaimedBytes is what its drone said of this nap.
	Nap
	// ResumeSeconds is for how long its key is dormant once it has ended, and DormantUntil, once it has, until when, as long as no other backend has
	// acquired the key since; Resumes is the backend whose life its own goes on. Left out: none.
	ResumeSeconds *int64     `json:"resume_seconds,omitempty"`
	DormantUntil  *time.Time `json:"dormant_until,omitempty"`
	Resumes       string     `json:"resumes,omitempty"`
	// Template is what it was asked for by, if it was.
	Template string `json:"template,omitempty"`
	// Runs is its image or its command, cut short.
	Runs string `json:"runs,omitempty"`
	// Users are those who have tokens that live, by name, MaxUsers at most; MoreUsers says that there are more. In
	// the answer to [SubjectStatus] alone.
	Users     []string `json:"users,omitempty"`
	MoreUsers bool     `json:"more_users,omitempty"`
	// Crashes are the failures of its key in a row; left out: none. In the answer to [SubjectStatus] alone.
	Crashes *Crashes `json:"crashes,omitempty"`
	State
	// Number orders statuses.
	Number int `json:"number"`
}

// MaxUsers is how many users a backend's status names.
const MaxUsers = 20

// BackendsRequest lists backends by id, those that have not ended unless All. Each of the other
// fields that is given leaves out those of which it does not hold.
type BackendsRequest struct {
	Drone string `json:"drone,omitempty"`
	All   bool   `json:"all,omitempty"`
	// Key are those that are, or were, for the key; its tag is not compared.
	Key *Key `json:"key,omitempty"`
	// Namespace are those for keys of a namespace, which may be ""; not beside Key.
	Namespace *string `json:"namespace,omitempty"`
	// Statuses are those in one of these; where terminated is one, All is meant.
	Statuses []Status `json:"statuses,omitempty"`
	// ChangedWithinSeconds are those whose status changed within so many seconds, by the database's clock.
	ChangedWithinSeconds *int64 `json:"changed_within_seconds,omitempty"`
	Page
}

// Filtered says whether more than the drone and All is asked for.
func (r *BackendsRequest) Filtered() bool {
	return r.Key != nil || r.Namespace != nil || len(r.Statuses) > 0 || r.ChangedWithinSeconds != nil
}

// BackendsResponse is one page; Next goes into After of the next request, "" at the end.
type BackendsResponse struct {
	Backends []BackendInfo `json:"backends"`
	Next     string        `json:"next,omitempty"`
}

// DronesRequest lists drones by name.
type DronesRequest struct{ Page }

// Page is which part of a listing is wanted.
type Page struct {
	After string `json:"after,omitempty"`
	// Limit is 1 to MaxPage; 0 is MaxPage.
	Limit int `json:"limit,omitempty"`
}

// DronesResponse is one page, as BackendsResponse.
type DronesResponse struct {
	Drones []DroneInfo `json:"drones"`
	Next   string      `json:"next,omitempty"`
}

// AgentStopped begins what a drone says last of why it takes no backends, if its agent was stopped; a time follows.
const AgentStopped = "its agent was stopped at "

// DroneInfo is what Postgres knows of a drone.
type DroneInfo struct {
	Drone   string `json:"drone"`
	Cluster string `json:"cluster"`
	Pool    string `json:"pool,omitempty"`
	Session string `json:"session"`
	Runtime string `json:"runtime,omitempty"`
	Version string `json:"version,omitempty"`
	Ready   bool   `json:"ready"`
	// NotReady is why the drone says that it is not, if it does.
	NotReady string `json:"not_ready,omitempty"`
	Draining bool   `json:"draining"`
	// Full says that it takes no more for now: its capacity is reached, or it has refused a backend for want of room.
	Full bool `json:"full,omitempty"`
	Capacity
	// Load counts the backends that have not ended, and what the drone said of the rest.
	Load
	// Spares are those that it said it keeps.
	Spares []SpareState `json:"spares,omitempty"`
	// HeardMSAgo is how long ago the drone was last heard from, by the database's clock.
	HeardMSAgo int64 `json:"heard_ms_ago"`
	// Lost says that it has not been heard from for as long as a lease lives.
	Lost bool `json:"lost,omitempty"`
}

func (r *TerminateRequest) validate() *Error {
	var err *Error
	switch {
	case r.Key == nil:
		err = checkID("backend_id", r.BackendID)
	case r.BackendID != "":
		err = badField("key", "must be left out where backend_id is given")
	default:
		err = r.Key.validate()
	}
	if err != nil {
		return err
	}
	if err := checkText("by", r.By, MaxName); err != nil {
		return err
	}
	return checkText("reason", r.Reason, maxReason)
}

func (r *StatusRequest) validate() *Error {
	switch {
	case r.Key == nil:
		return checkID("backend_id", r.BackendID)
	case r.BackendID != "":
		return badField("key", "must be left out where backend_id is given")
	}
	return r.Key.validate()
}

func (r *RevokeRequest) validate() *Error {
	if err := checkID("backend_id", r.BackendID); err != nil {
		return err
	}
	if r.User == nil && r.Token == "" {
		return badField("user", "or token must say what to revoke")
	}
	if r.User != nil {
		if err := checkText("user", *r.User, MaxName); err != nil {
			return err
		}
	}
	if strings.HasPrefix(r.Token, StaticTokenPrefix) {
		return badField("token", "is a static one, which lives as long as its backend: terminate that")
	}
	return checkText("token", r.Token, MaxToken)
}

func (r *DrainRequest) validate() *Error {
	if n := r.EndAfterSeconds; n != nil && (*n < 0 || *n > MaxSeconds) {
		return badField("end_after_seconds", "must be 0 to %d", MaxSeconds)
	}
	return checkPrefixed("drone", "dr-", r.Drone)
}
func (r *ForgetRequest) validate() *Error { return checkPrefixed("drone", "dr-", r.Drone) }

func (r *BackendsRequest) validate() *Error {
	if r.Drone != "" {
		if err := checkPrefixed("drone", "dr-", r.Drone); err != nil {
			return err
		}
	}
	switch {
	case r.Key != nil && r.Namespace != nil:
		return badField("namespace", "must be left out where key is given, which has its own")
	case r.Key != nil:
		if err := r.Key.validate(); err != nil {
			return err
		}
	case r.Namespace != nil:
		if err := checkText("namespace", *r.Namespace, MaxName); err != nil {
			return err
		}
	}
	if len(r.Statuses) > len(Statuses) {
		return badField("statuses", "are %d, and there are only %d", len(r.Statuses), len(Statuses))
	}
	if slices.Contains(r.Statuses, Terminated) {
		r.All = true
	}
	if err := checkSeconds("changed_within_seconds", r.ChangedWithinSeconds); err != nil {
		return err
	}
	return r.Page.validate()
}

func (r *DronesRequest) validate() *Error { return r.Page.validate() }

func (p *Page) validate() *Error {
	if p.After != "" {
		if err := checkID("after", p.After); err != nil {
			return err
		}
	}
	if p.Limit < 0 || p.Limit > MaxPage {
		return badField("limit", "must be 1 to %d", MaxPage)
	}
	if p.Limit == 0 {
		p.Limit = MaxPage
	}
	return nil
}
