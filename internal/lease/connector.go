package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/internal/placement"
	"github.com/jetway-project/jetway/messages"
)

// Config of a Connector. Store and Log are required.
type Config struct {
	Store Store
	// DefaultCluster is for requests that name none; "" refuses them.
	DefaultCluster string
	// Origins gives backends hosts of their own where requests do not say, in clusters that have names.
	Origins bool
	// TokenLifetime is how long a token lives after its last use, where the request does not say. Default [DefaultTokenLifetime].
	TokenLifetime time.Duration
	// Keys seal static tokens; without one none are given. Default: no keys.
	Keys *Keys
	// OnTakeover is called, if set, for each expired lease that was taken over.
	OnTakeover func()
	Log        *slog.Logger
}

// DefaultTokenLifetime is how long a token lives after its last use.
const DefaultTokenLifetime = time.Hour

// Connector settles batches of connect requests. Safe for use by several goroutines.
type Connector struct {
	cfg       Config
	drones    drones
	templates templates
}

// NewConnector makes a Connector.
func NewConnector(cfg Config) *Connector {
	if cfg.TokenLifetime == 0 {
		cfg.TokenLifetime = DefaultTokenLifetime
	}
	if cfg.Keys == nil {
		cfg.Keys = new(Keys)
	}
	return &Connector{cfg: cfg, drones: drones{store: cfg.Store}, templates: templates{store: cfg.Store}}
}

// Request is one request of a batch; it has been validated.
type Request struct {
	messages.ConnectRequest
	Traceparent string
	// Deadline is until when the asker waits: by then a backend that its drone refuses
	// may be placed on another one.
	Deadline time.Time
}

// Outcome is what one request gets: exactly one field is set.
type Outcome struct {
	Response *messages.ConnectResponse
	// Leaving asks to wait for a backend's end and to try again.
	Leaving *Leaving
	Err     error
}

// Leaving is a backend that holds the key and is about to end.
type Leaving struct{ Got }

// restored refuses who asks for a key that somebody may hold whom the database has forgotten. wait is how long nobody is given one yet.
func restored(wait time.Duration) error {
	err := messages.Errorf(messages.Unavailable,
		"the database was restored or failed over, and may not know who holds the key: ask again in %s, in which the drones say what they run", wait.Round(time.Second))
	err.Reason = messages.UnavailableRestored
	return err
}

// rounds bounds how often a race is settled by looking again without success. Each
// further round follows on a commit of another request for the same key, id or drone.
const rounds = 6

// Connect settles a batch: one outcome for each request, in order, and the rows
// that were committed and are to be published.
func (c *Connector) Connect(ctx context.Context, reqs []Request) ([]Outcome, []outbox.Row) {
	b := &batch{
		Connector: c, reqs: reqs,
		outcomes: make([]Outcome, len(reqs)),
		tokens:   newTokens(len(reqs)),
		began:    time.Now(),
	}
	pending := make([]int, len(reqs))
	for i := range pending {
		pending[i] = i
	}
	// A round that settles some is no try in vain: those of the batch that want
	// one backend id under different keys take turns.
	for vain := 0; len(pending) > 0 && vain < rounds; {
		left := b.round(ctx, pending)
		if len(left) == len(pending) {
			vain++
		}
		pending = left
	}
	for _, i := range pending {
		b.refuse(i, messages.Errorf(messages.FailedToAcquireKey, "the key could not be acquired in %d rounds", rounds))
	}
	return b.outcomes, b.rows
}

// batch is one call of Connect.
type batch struct {
	*Connector
	reqs     []Request
	outcomes []Outcome
	tokens   []tokenPair
	began    time.Time
	rows     []outbox.Row

	dormant map[[2]string]*Dormant // of the keys that were asked for, once nobody was found to hold them
	look    []messages.Key         // those to be looked at before the next round
	// dormantErr is why they could not be.
	dormantErr error

	names   []string                // of all templates, once somebody asked for one that is not there
	read    map[string]readTemplate // the templates that the round's requests name
	readErr error                   // why some of them could not be read
}

// group is the requests of one round for one key.
type group struct {
	key     messages.Key
	members []int
	leader  int // the member whose spawn config is used; -1: none
	drone   *placement.Drone
	spawn   *Spawn
	// unled says why a member cannot lead, should nobody hold the key.
	unled map[int]error
}

// round tries to settle the pending requests with one statement and gives back
// those that a race left unsettled.
func (b *batch) round(ctx context.Context, pending []int) (left []int) {
	b.readDormant(ctx)
	b.readTemplates(ctx, pending)
	groups, deferred := b.fold(ctx, pending)
	left = append(left, deferred...)
	if len(groups) == 0 {
		return left
	}
	wants := make([]Want, len(groups))
	for i, g := range groups {
		wants[i] = Want{Key: g.key, Spawn: g.spawn, Tokens: b.tokenRows(g), Traceparent: b.reqs[g.members[0]].Traceparent}
	}
	got, rows, err := b.cfg.Store.Connect(ctx, wants)
	for i, g := range groups {
		if g.drone != nil && (err != nil || got[i].Result != Acquired) {
			b.drones.giveBack(g.drone, g.spawn)
		}
	}
	if err != nil {
		return append(left, b.failed(ctx, groups, err)...)
	}
	b.rows = append(b.rows, rows...)
	for i, g := range groups {
		left = append(left, b.settle(g, got[i])...)
	}
	return left
}

// failed decides what a failed statement, which did nothing, means.
func (b *batch) failed(ctx context.Context, groups []*group, err error) (left []int) {
	retry := errors.Is(err, ErrRaced)
	alone := len(groups) == 1
	if !retry && !alone && messages.KindOf(err) != messages.Unavailable && ctx.Err() == nil {
		// One of them is the cause, and the others must not suffer for it.
		b.cfg.Log.Error("a batch failed; its requests are tried one by one", "requests", len(groups), "err", err)
		for _, g := range groups {
			left = append(left, b.round(ctx, g.members)...)
		}
		return left
	}
	for _, g := range groups {
		for _, i := range g.members {
			if retry {
				left = append(left, i)
			} else {
				b.refuse(i, err)
			}
		}
	}
	return left
}

// fold groups requests by key, in the order of keys (so that two batches lock
// their rows in the same order), and picks who spawns if nobody holds the key.
// Deferred are requests whose backend id another one of the batch wants.
func (b *batch) fold(ctx context.Context, pending []int) (groups []*group, deferred []int) {
	ids := make(map[string]bool)
	groups = b.group(pending)
	kept := groups[:0]
	for _, g := range groups {
		b.lead(ctx, g)
		if g.spawn != nil && g.spawn.IDGiven {
			if ids[g.spawn.BackendID] {
				b.drones.giveBack(g.drone, g.spawn)
				deferred = append(deferred, g.members...)
				continue
			}
			ids[g.spawn.BackendID] = true
		}
		kept = append(kept, g)
	}
	return kept, deferred
}

// group gives the requests by key, in the order of keys.
func (b *batch) group(pending []int) (groups []*group) {
	byKey := make(map[[2]string]*group, len(pending))
	for _, i := range pending {
		var key messages.Key
		if k := b.reqs[i].Key; k != nil {
			key = *k
		} else {
			key = messages.Key{Name: "lk-" + randomName(14)}
		}
		id := idOf(key)
		g := byKey[id]
		if g == nil {
			g = &group{key: key, leader: -1}
			byKey[id] = g
			groups = append(groups, g)
		}
		g.members = append(g.members, i)
	}
	slices.SortFunc(groups, func(x, y *group) int {
		if c := strings.Compare(x.key.Namespace, y.key.Namespace); c != 0 {
			return c
		}
		return strings.Compare(x.key.Name, y.key.Name)
	})
	return groups
}

// lead finds the first member that can spawn.
func (b *batch) lead(ctx context.Context, g *group) {
	for _, i := range g.members {
		spawn, drone, err := b.spawn(ctx, i, g.key)
		if err != nil && b.readAgain(ctx, i) {
			spawn, drone, err = b.spawn(ctx, i, g.key)
		}
		if err == nil {
			g.leader, g.spawn, g.drone = i, spawn, drone
			g.key.Tag = spawnTag(b.reqs[i].Key)
			return
		}
		if g.unled == nil {
			g.unled = make(map[int]error)
		}
		g.unled[i] = err
	}
}

func spawnTag(key *messages.Key) string {
	if key == nil {
		return ""
	}
	return key.Tag
}

// spawn prepares the backend that request i would get.
func (b *batch) spawn(ctx context.Context, i int, key messages.Key) (*Spawn, *placement.Drone, error) {
	cfg, goesOn, err := b.configOf(i)
	if err != nil {
		return nil, nil, err
	}
	var template *messages.SpawnTemplate
	asked := cfg
	if cfg.Template != "" {
		if cfg, template, err = b.resolve(ctx, cfg); err != nil {
			return nil, nil, err
		}
	}
	cluster := cfg.Cluster
	if cluster == "" {
		cluster = b.cfg.DefaultCluster
	}
	if cluster == "" {
		return nil, nil, messages.Errorf(messages.NoClusterProvided, "the request names no cluster, and the worker has no default one")
	}
	static, staticHash, err := b.staticToken(i, cfg)
	if err != nil {
		return nil, nil, err
	}
	subdomain, origin, err := hostOf(cfg, cluster, b.cfg.Origins)
	if err != nil {
		return nil, nil, err
	}
	drone, err := b.drones.pick(ctx, placement.Want{Cluster: cluster, Pool: cfg.Pool, Template: cfg.Template}, b.began)
	if err != nil {
		return nil, nil, err
	}
	key.Tag = spawnTag(b.reqs[i].Key)
	spawn := &Spawn{
		BackendID: cfg.ID, IDGiven: cfg.ID != "",
		Cluster: cluster, Pool: cfg.Pool,
		Drone: drone.Name, Session: drone.Session,
		Subdomain:   subdomain,
		Origin:      origin,
		StaticToken: static, StaticHash: staticHash,
		GoesOn:      goesOn,
		Traceparent: b.reqs[i].Traceparent,
	}
	spawn.keep(asked)
	if !spawn.IDGiven {
		spawn.BackendID = newBackendID(time.Now())
	}
	if cfg.LifetimeLimitSeconds != nil {
		spawn.LifetimeSeconds = *cfg.LifetimeLimitSeconds
	}
	if cfg.MaxIdleSeconds != nil {
		spawn.MaxIdleSeconds = *cfg.MaxIdleSeconds
	}
	if cfg.SleepAfterSeconds != nil {
		spawn.SleepAfterSeconds, spawn.SleepIgnoresIdle = *cfg.SleepAfterSeconds, cfg.SleepIgnoresIdleConnections
	}
	spawn.Body = outbox.SpawnBody{
		Spawn:         messages.Spawn{Session: drone.Session, Key: key, Executable: cfg.Executable, Template: template},
		PlaceWithinMS: max(time.Until(b.reqs[i].Deadline).Milliseconds(), 0),
	}
	return spawn, drone, nil
}

// settle gives the members of a group what the statement decided.
func (b *batch) settle(g *group, got Got) (left []int) {
	switch got.Result {
	case Held, Acquired:
		if got.TookOver != "" {
			b.cfg.Log.Warn("took an expired lease over", "key", g.key.Name, "backend_id", got.BackendID, "lost", got.TookOver)
			if b.cfg.OnTakeover != nil {
				b.cfg.OnTakeover()
			}
		}
		for _, i := range g.members {
			b.join(i, g, got)
		}
	case IDTaken:
		b.refuse(g.leader, messages.Errorf(messages.BackendExists, "a backend with the id %q exists", g.spawn.BackendID))
		for _, i := range g.members {
			if i != g.leader {
				left = append(left, i)
			}
		}
	case Unsettled:
		return g.members
	case Resting:
		for _, i := range g.members {
			b.refuse(i, backingOff(got.Crashes))
		}
	case Unheld, Unknown:
		if g.leader < 0 && got.Result == Unheld && b.lookForDormant(g) {
			return g.members
		}
		if g.leader < 0 {
			for _, i := range g.members {
				err := g.unled[i]
				if got.Result == Unknown && messages.KindOf(err) == messages.KeyUnheldNoSpawnConfig {
					err = restored(got.ExpiresIn)
				}
				b.refuse(i, err)
			}
			return nil
		}
		if got.Result == Unknown {
			for _, i := range g.members {
				b.refuse(i, restored(got.ExpiresIn))
			}
			return nil
		}
		// Lost a race for the key, or the drone no longer qualifies, or the template is another one by now: look again.
		b.lookAgain(g)
		b.drones.forget()
		b.templates.forget(g.spawn.Body.Template.NameOf())
		return g.members
	}
	return left
}

// backingOff says for how long a key rests, and what its last life died of.
func backingOff(c *messages.Crashes) error {
	err := messages.Errorf(messages.BackingOff, "the last %d backends of the key ended soon after they were started, or could not start: the next one may start in %.1f s. The last one: %s",
		c.InARow, float64(c.RetryAfterMS)/1000, c.LastWords)
	err.RetryAfterMS, err.LastWords = c.RetryAfterMS, c.LastWords
	return err
}

func (b *batch) join(i int, g *group, got Got) {
	spawned := got.Result == Acquired && i == g.leader
	switch key := b.reqs[i].Key; {
	case key != nil && key.Tag != got.Tag:
		b.refuse(i, messages.Errorf(messages.KeyHeld, "the key is held with the tag %q, not %q", got.Tag, key.Tag))
	case got.Leaving:
		b.outcomes[i].Leaving = &Leaving{got}
	case got.StaticToken != "" && b.reqs[i].OfOneToken() != "":
		b.refuse(i, messages.Errorf(messages.BadRequest, "%s: the key's backend %q has a static token, which all who connect share: nothing can be told of one of them. Leave it out", b.reqs[i].OfOneToken(), got.BackendID))
	default:
		b.outcomes[i].Response, b.outcomes[i].Err = b.respond(i, g, got, spawned)
	}
}

// respond says how to reach the backend that request i was given.
func (b *batch) respond(i int, g *group, got Got, spawned bool) (*messages.ConnectResponse, error) {
	resp := &messages.ConnectResponse{
		BackendID: got.BackendID, Spawned: spawned, Status: got.Status,
		Token: b.tokens[i].token, SecretToken: b.tokens[i].secret, Subdomain: got.Subdomain,
	}
	if got.StaticToken != "" {
		token, err := b.cfg.Keys.Open(got.StaticToken)
		if err != nil {
			return nil, err
		}
		resp.Token, resp.SecretToken = token, ""
	}
	if spawned {
		resp.Drone, resp.Resumes = g.spawn.Drone, got.Resumes
	}
	resp.URL = messages.BackendURL(got.Cluster, got.Subdomain, resp.Token)
	if got.Origin {
		resp.URL = messages.EnterURL(got.Cluster, got.Subdomain, resp.Token)
	}
	return resp, nil
}

func (b *batch) refuse(i int, err error) {
	if err == nil {
		err = fmt.Errorf("request %d was refused without a reason", i)
	}
	b.outcomes[i].Err = err
}
