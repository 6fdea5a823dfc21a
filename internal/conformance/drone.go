package conformance

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/pause"
	"github.com/jetway-project/jetway/messages"
)

// Drone says what is tested. Name and Executable have no default.
type Drone struct {
	Name string
	// Executable is what the drone is told to run: something that answers HTTP and ends at a soft end.
	Executable json.RawMessage
	// Lease is how long a lease lives here; 12 s. A sixth of it lies between two heartbeats.
	Lease time.Duration
	// Wait is how long everything else may take; 30 s.
	Wait time.Duration
	// Slack is what a process may outlive its hard deadline by; a sixth of Lease, for then its key is given away.
	Slack time.Duration
	// Only are the checks to try, with those that they build on; none: all.
	Only []string
	// Say is told each result as it comes.
	Say func(Result)
}

// DroneChecks are the checks of a drone, in their order.
func DroneChecks() []Check { return checksOf(droneTable) }

// Run plays the workers to the drone until all checks were tried. The error is of what kept it from that.
func (d Drone) Run(ctx context.Context, nc *nats.Conn) error {
	if d.Lease == 0 {
		d.Lease = 12 * time.Second
	}
	if d.Wait == 0 {
		d.Wait = 30 * time.Second
	}
	if d.Slack == 0 {
		d.Slack = d.Lease / 6
	}
	table, err := only(droneTable, d.Only)
	if err != nil {
		return err
	}
	common, err := newBench(nc, d.Name, d.Wait)
	if err != nil {
		return err
	}
	b := &droneBench{
		bench: common, cfg: d, muteRegister: 1,
		backends: map[string]*backend{}, lost: map[string]bool{}, sealed: map[string]bool{}, disowned: map[string]bool{},
		visits: &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	if err := b.alone(ctx, messages.HeartbeatSubject(d.Name)); err != nil {
		return err
	}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	if err := bus.PurgeActions(ctx, b.js, d.Name); err != nil {
		return err
	}
	defer b.close()
	for subject, handle := range map[string]func([]byte) (any, error){
		messages.RegisterSubject(d.Name):  b.onRegister,
		messages.HeartbeatSubject(d.Name): b.onHeartbeat,
		messages.ReportSubject(d.Name):    b.onReport,
	} {
		if err := b.answer(subject, handle); err != nil {
			return err
		}
	}
	err = runTable(ctx, table, b, d.Say)
	// What runs ends: the drone may be used again.
	b.set(func() { b.silent, b.muteReports, b.extras = false, false, false })
	for _, leave := range []func(context.Context) error{
		b.endAll,
		func(ctx context.Context) error { return bus.DeleteConsumer(ctx, b.js, d.Name) },
		func(ctx context.Context) error { return bus.PurgeActions(ctx, b.js, d.Name) },
	} {
		leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.Wait)
		err = errors.Join(err, leave(leaving))
		cancel()
	}
	return err
}

// droneBench is the workers' part, with a script instead of a database.
type droneBench struct {
	*bench
	cfg    Drone
	visits *http.Client

	// Under the lock:
	muteRegister  int  // so many registrations get no answer
	silent        bool // nothing is answered
	muteReports   bool // reports are not
	registrations []registration
	beats         []beat
	session       string
	backends      map[string]*backend
	lost          map[string]bool // a registration's answer says so of those that it names
	sealed        map[string]bool
	disowned      map[string]bool // reports of them are refused
}

type registration struct {
	messages.RegisterRequest
	answered bool
}

type beat struct {
	messages.HeartbeatRequest
	at      time.Time
	renewed bool // it was answered with new deadlines
}

// backend is what has been reported of one.
type backend struct {
	known   []messages.State // taken as news, in order
	address string
	// repeated counts by status how often it came while nothing was answered.
	repeated map[messages.Status]int
	disowned bool // a report of it was refused
}

func (k *backend) status() messages.Status {
	if len(k.known) == 0 {
		return 0
	}
	return k.known[len(k.known)-1].Status
}

func (b *droneBench) of(id string) *backend {
	k := b.backends[id]
	if k == nil {
		k = &backend{repeated: map[messages.Status]int{}}
		b.backends[id] = k
	}
	return k
}

func (b *droneBench) deadlines(droneTimeMS int64) messages.Deadlines {
	sixth := b.cfg.Lease.Milliseconds() / 6
	return messages.Deadlines{RenewAtMS: droneTimeMS + sixth, SoftTerminateAtMS: droneTimeMS + 4*sixth, HardTerminateAtMS: droneTimeMS + 5*sixth}
}

// hardAfter is how long after a renewal's drone time a process must be dead.
func (b *droneBench) hardAfter() time.Duration { return 5 * b.cfg.Lease / 6 }

func (b *droneBench) renewalLocked(droneTimeMS int64) messages.Renewal {
	r := messages.Renewal{Deadlines: b.deadlines(droneTimeMS)}
	for id := range b.sealed {
		if b.of(id).status() != messages.Terminated {
			r.Sealed = append(r.Sealed, id)
		}
	}
	return r
}

func (b *droneBench) onRegister(data []byte) (any, error) {
	req, err := messages.Decode[messages.RegisterRequest](data)
	ctx, cancel := context.WithTimeout(context.Background(), b.wait)
	defer cancel()
	consumer := ""
	if err == nil {
		if consumer, err = bus.EnsureConsumer(ctx, b.js, b.name); err != nil {
			err = messages.Errorf(messages.Unavailable, "%v", err)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.observed.tellLocked()
	if err != nil {
		b.faultLocked("payloads", "a registration: %v", err)
		return nil, err
	}
	r := registration{RegisterRequest: req, answered: !b.silent && b.muteRegister == 0}
	b.registrations = append(b.registrations, r)
	b.muteRegister = max(b.muteRegister-1, 0)
	if !r.answered {
		return nil, nil
	}
	b.session = req.Session
	resp := messages.RegisterResponse{
		Stream: messages.StreamActions, Consumer: consumer, HeartbeatIntervalMS: b.cfg.Lease.Milliseconds() / 6, Renewal: b.renewalLocked(req.DroneTimeMS),
	}
	for _, id := range req.Backends {
		if b.lost[id] {
			resp.Lost = append(resp.Lost, id)
		}
	}
	return resp, nil
}

func (b *droneBench) onHeartbeat(data []byte) (any, error) {
	req, err := messages.Decode[messages.HeartbeatRequest](data)
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.observed.tellLocked()
	if err != nil {
		b.faultLocked("payloads", "a heartbeat: %v", err)
		return nil, err
	}
	if !b.silent && req.Session != b.session {
		return nil, messages.Errorf(messages.NotFound, "no such session")
	}
	b.beats = append(b.beats, beat{HeartbeatRequest: req, at: time.Now(), renewed: !b.silent})
	if b.silent {
		return nil, nil
	}
	return messages.HeartbeatResponse{Renewal: b.renewalLocked(req.DroneTimeMS)}, nil
}

func (b *droneBench) onReport(data []byte) (any, error) {
	req, err := messages.Decode[messages.ReportRequest](data)
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.observed.tellLocked()
	if err != nil {
		b.faultLocked("payloads", "a report: %v", err)
		return nil, err
	}
	if b.silent || b.muteReports {
		for i := range req.Reports {
			b.of(req.Reports[i].BackendID).repeated[req.Reports[i].Status]++
		}
		return nil, nil
	}
	if req.Session != b.session {
		return nil, messages.Errorf(messages.NotFound, "no such session")
	}
	refused := messages.Errorf(messages.NotFound, "not this drone's")
	for i := range req.Reports {
		r := &req.Reports[i]
		if b.disowned[r.BackendID] || b.lost[r.BackendID] {
			refused.Backends = append(refused.Backends, r.BackendID)
			b.of(r.BackendID).disowned = true
			b.of(r.BackendID).address = cmp.Or(r.Address, b.of(r.BackendID).address)
		}
	}
	if len(refused.Backends) > 0 {
		return nil, refused
	}
	for i := range req.Reports {
		b.takeLocked(&req.Reports[i])
	}
	return messages.Empty{}, nil
}

// takeLocked takes in one state. What is known comes again where its answer was late; what is lower and was never said goes back, and
// what runs a second time has another address.
func (b *droneBench) takeLocked(r *messages.Report) {
	k := b.of(r.BackendID)
	if r.Status > k.status() {
		k.known = append(k.known, r.State)
		k.address = cmp.Or(r.Address, k.address)
		return
	}
	n := slices.IndexFunc(k.known, func(s messages.State) bool { return s.Status == r.Status })
	switch {
	case n < 0:
		b.faultLocked("order", "%s is reported %s after %s", r.BackendID, r.Status, k.status())
	case r.Address != "" && k.known[n].Address != "" && r.Address != k.known[n].Address:
		b.faultLocked("order", "%s is reported %s once more, at another address: it was started twice", r.BackendID, r.Status)
	}
}

// newID names a backend of one check.
func (b *droneBench) newID(what string) string { return "cf-" + b.run + "-" + what }

// spawn sends the action that spawns a backend; change alters it.
func (b *droneBench) spawn(ctx context.Context, id string, change ...func(*messages.Spawn)) error {
	b.mu.Lock()
	var stated int64
	if n := len(b.beats); n > 0 {
		stated = b.beats[n-1].DroneTimeMS
	}
	spawn := &messages.Spawn{
		Session: b.session, Key: messages.Key{Name: id, Namespace: "conformance"}, FencingToken: time.Now().UnixMilli(),
		Deadlines: b.deadlines(stated), Executable: b.cfg.Executable,
	}
	b.mu.Unlock()
	for _, c := range change {
		c(spawn)
	}
	return b.act(ctx, messages.Action{Type: messages.TypeSpawn, ID: messages.SpawnID(id), BackendID: id, Spawn: spawn})
}

func (b *droneBench) terminate(ctx context.Context, id string, hard bool) error {
	return b.act(ctx, messages.Action{
		Type: messages.TypeTerminate, ID: messages.TerminateID(id, hard), BackendID: id,
		Terminate: &messages.Terminate{Hard: hard, Reason: messages.ReasonExternal},
	})
}

func (b *droneBench) act(ctx context.Context, action messages.Action) error {
	action.Time = time.Now().UTC()
	return b.publish(ctx, messages.ActionSubject(b.name), b.encode(action))
}

// settled waits until all actions are acknowledged.
func (b *droneBench) settled(ctx context.Context) error {
	left := uint64(0)
	if b.polled(ctx, b.wait, func(ctx context.Context) bool {
		stream, err := b.js.Stream(ctx, messages.StreamActions)
		if err != nil {
			return false
		}
		info, err := stream.Info(ctx, jetstream.WithSubjectFilter(messages.ActionSubject(b.name)))
		if err != nil {
			return false
		}
		left = info.State.Subjects[messages.ActionSubject(b.name)]
		return left == 0
	}) {
		return nil
	}
	return errNot(b.wait, "the actions are acknowledged: %d are not", left)
}

// reaches waits until a backend was reported in a status or beyond, and gives that state.
func (b *droneBench) reaches(ctx context.Context, id string, status messages.Status) (state messages.State, err error) {
	var last messages.Status
	if b.until(ctx, func() bool {
		k := b.of(id)
		last = k.status()
		n := slices.IndexFunc(k.known, func(s messages.State) bool { return s.Status >= status })
		if n >= 0 {
			state = k.known[n]
		}
		return n >= 0
	}) {
		return state, nil
	}
	if last == 0 {
		return state, errNot(b.wait, "a report that %s is %s; nothing was reported of it", id, status)
	}
	return state, errNot(b.wait, "a report that %s is %s; the last one said %s", id, status, last)
}

// runs spawns a backend and waits until it is ready.
func (b *droneBench) runs(ctx context.Context, id string) error {
	if err := b.spawn(ctx, id); err != nil {
		return err
	}
	return b.isReady(ctx, id)
}

func (b *droneBench) isReady(ctx context.Context, id string) error {
	state, err := b.reaches(ctx, id, messages.Ready)
	if err == nil && state.Status != messages.Ready {
		return fmt.Errorf("%s was to run, and is %s: %s", id, state.Status, state.Message)
	}
	return err
}

// ended spawned nothing that lives: the backend is terminated, for a reason if one is wanted.
func (b *droneBench) ended(ctx context.Context, id string, reasons ...messages.TerminationReason) (messages.State, error) {
	state, err := b.reaches(ctx, id, messages.Terminated)
	if err == nil && len(reasons) > 0 && !slices.Contains(reasons, state.Reason) {
		return state, fmt.Errorf("%s ended with the termination_reason %q, and %q is what it ended for", id, state.Reason, reasons[0])
	}
	return state, err
}

// neverRan says that nothing but the end of a backend was reported.
func (b *droneBench) neverRan(id string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.of(id).known {
		if s.Status >= messages.Starting && s.Status < messages.Terminating {
			return fmt.Errorf("%s was reported %s: it was started", id, s.Status)
		}
	}
	return nil
}

func (b *droneBench) addressOf(id string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.of(id).address
}

// holds waits for a heartbeat that says so many backends.
func (b *droneBench) holds(ctx context.Context, backends int) error {
	last := -1
	if b.until(ctx, func() bool {
		if n := len(b.beats); n > 0 {
			last = b.beats[n-1].Load.Backends
		}
		return last == backends
	}) {
		return nil
	}
	return errNot(b.wait, "a heartbeat with load.backends %d; the last one says %d", backends, last)
}

// answers says whether somebody answers HTTP at a backend's address; known: it has one.
func (b *droneBench) answers(ctx context.Context, id string) (answers, known bool) {
	address := b.addressOf(id)
	if address == "" {
		return false, false
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, "http://"+address+"/", nil)
	if err != nil {
		return false, true
	}
	resp, err := b.visits.Do(req)
	if err != nil {
		return false, true
	}
	_ = resp.Body.Close()
	return true, true
}

// dead waits until nobody answers at a backend's address.
func (b *droneBench) dead(ctx context.Context, id string, within time.Duration) error {
	if _, known := b.answers(ctx, id); !known {
		return unseen("it has no address, so nobody can see from here whether its process is dead")
	}
	if b.polled(ctx, within, func(ctx context.Context) bool {
		answers, _ := b.answers(ctx, id)
		return !answers && ctx.Err() == nil
	}) {
		return nil
	}
	return errNot(within, "%s is dead: it still answers at its address", id)
}

// alive says that a backend is not reported as ending, and answers where it has an address.
func (b *droneBench) alive(ctx context.Context, id string) error {
	b.mu.Lock()
	status := b.of(id).status()
	b.mu.Unlock()
	if status >= messages.Terminating {
		return fmt.Errorf("%s was to go on, and is %s", id, status)
	}
	if answers, known := b.answers(ctx, id); known && !answers {
		return fmt.Errorf("%s was to go on, and does not answer at its address", id)
	}
	return nil
}

// heartbeats waits for so many more heartbeats that are answered.
func (b *droneBench) heartbeats(ctx context.Context, more int) error {
	b.mu.Lock()
	from := len(b.beats)
	b.mu.Unlock()
	if !b.until(ctx, func() bool { return len(b.beats) >= from+more }) {
		return errNot(b.wait, "%d more heartbeats", more)
	}
	return nil
}

// pass lets some time pass, in heartbeats.
func (b *droneBench) pass(ctx context.Context, beats int) {
	pause.Sleep(ctx, time.Duration(beats)*b.cfg.Lease/6)
}

// endAll ends what the checks left running.
func (b *droneBench) endAll(ctx context.Context) error {
	b.mu.Lock()
	var left []string
	for id, k := range b.backends {
		if s := k.status(); s != 0 && s != messages.Terminated && !b.lost[id] && !b.disowned[id] {
			left = append(left, id)
		}
	}
	b.mu.Unlock()
	for _, id := range left {
		if b.terminate(ctx, id, true) != nil {
			break
		}
	}
	b.within(ctx, b.cfg.Lease, func() bool { // who does not by then has failed a check
		return !slices.ContainsFunc(left, func(id string) bool { return b.of(id).status() != messages.Terminated })
	})
	return nil
}
