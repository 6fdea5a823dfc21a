package conformance

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/bus"
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
	nap      messages.Nap
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
	b.napLocked(r, k)
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
