package lease

import (
	"context"
	"errors"
	"time"

	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/internal/placement"
	"github.com/jetway-project/jetway/messages"
)

// Store is what the algorithm needs of the database.
type Store interface {
	// Connect settles a batch: joins who holds a key and, where nobody does, acquires it
	// or takes it over for the given spawn, all that belongs to a key in one statement. It gives
	// one Got for every Want, in order, and the rows to publish. Wants are in
	// the order of their keys, each key once, each backend id once.
	Connect(ctx context.Context, wants []Want) ([]Got, []outbox.Row, error)
	// Dormant gives what keys are started with that are dormant, nil for the others.
	Dormant(ctx context.Context, keys []messages.Key) ([]*Dormant, error)
	// PlaceableDrones are those that may be given a backend now.
	PlaceableDrones(ctx context.Context) ([]placement.Drone, error)
	// Fleet is all drones that are known, by cluster, pool and how they stand to new backends.
	Fleet(ctx context.Context) ([]placement.Group, error)
	// Templates are those of the names that there are.
	Templates(ctx context.Context, names []string) ([]messages.Template, error)
	// TemplateNames are those of all templates, in order.
	TemplateNames(ctx context.Context) ([]string, error)
}

// ErrRaced is what Store.Connect gives when the statement as a whole collided
// with another's: nothing was done, and the next try sees the other's commit.
var ErrRaced = errors.New("the statement collided with another one")

// Dormant is what a dormant key is started with.
type Dormant struct {
	Tag string
	// BackendID is its last holder.
	BackendID string
	Config    *messages.SpawnConfig
}

// Want is one key of a batch.
type Want struct {
	Key messages.Key
	// Spawn is what to run when nobody holds the key; nil: do not.
	Spawn *Spawn
	// Tokens are written if the key's tag is theirs and its backend has none of its own.
	Tokens []Token
	// Traceparent is the trace context that waking whom it joins continues: that of the first who asked.
	Traceparent string
}

// Spawn is a backend that may come to be.
type Spawn struct {
	BackendID string
	// IDGiven says that the caller chose the id, so that it may exist.
	IDGiven         bool
	Cluster, Pool   string
	Drone, Session  string
	Subdomain       string
	Origin          bool   // its host is its own
	StaticToken     string // sealed (Keys); "": it has none
	StaticHash      []byte // by which it is found
	LifetimeSeconds int64  // 0: no limit
	MaxIdleSeconds  int64  // 0: no limit
	// SleepAfterSeconds is for how long nobody is connected before it sleeps; 0: it does not. SleepIgnoresIdle is as asked.
	SleepAfterSeconds int64
	SleepIgnoresIdle  bool
	// Kept is the spawn_config that the key is started with again once its backend has ended; nil: it is not.
	Kept *messages.SpawnConfig
	// AnyLabel says that Subdomain was made up: where the key is dormant, it goes on having that of before.
	AnyLabel bool
	// GoesOn is the last holder of a dormant key by whose Kept this was made: nothing is acquired unless the key is dormant by it still; "": it was
	// made by the request.
	GoesOn string
	// Body is what the drone gets, without fencing token, static token and deadlines. It becomes JSON only once
	// nobody is found to join.
	Body        outbox.SpawnBody
	Traceparent string
}

// Token is a connection token to be written, by its hash.
type Token struct {
	Tag    string
	Hash   []byte
	Secret string // sealed with the token
	User   string
	Auth   []byte
	// LifeSeconds is for how long it lives after each use.
	LifeSeconds int64
}

// Got is what became of a Want.
type Got struct {
	Result Result
	// The rest is set for Held and Acquired.
	BackendID string
	Tag       string
	Status    messages.Status
	// Leaving says that the backend ends, or was asked to.
	Leaving     bool
	Cluster     string
	Subdomain   string
	Origin      bool
	StaticToken string // sealed, or as an earlier build stored it
	// Resumes is the backend whose life this one's goes on, if it does; for Acquired.
	Resumes string
	// ExpiresIn is how long the lease lasts, for Held; for Unknown how long nobody is given a key yet, at most.
	ExpiresIn time.Duration
	// TookOver is the backend that lost the key, if one did; for Acquired.
	TookOver string
	// Crashes are why the key rests; for Resting.
	Crashes *messages.Crashes
}

// Result says how a Want was settled.
type Result int

// The results.
const (
	// Unsettled: it was not found out who holds the key, for another try to do.
	Unsettled Result = iota
	Held
	Acquired
	// Unheld: nobody held the key when it was looked, and it was not acquired: no Spawn was given, its drone
	// no longer qualifies, its template is another one by now, or another acquired it meanwhile.
	Unheld
	// IDTaken: nobody holds the key, but the wanted backend id exists.
	IDTaken
	// Unknown: nobody is known to hold the key, but the database was restored or failed over a
	// moment ago, and may have forgotten who does (I1).
	Unknown
	// Resting: nobody holds the key, and it rests, for its lives have failed several times in a row.
	Resting
)
