package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/messages"
)

// statusCmd is `jetway status`.
type statusCmd struct {
	clientFlags
	which
}

// Run shows one backend.
func (c *statusCmd) Run(r *run) error {
	nc, err := c.which.open(r, &c.clientFlags)
	if err != nil {
		return err
	}
	defer nc.Close()
	info, err := ask[messages.BackendInfo](r, &c.clientFlags, nc, messages.SubjectStatus, messages.StatusRequest{BackendID: c.Backend})
	if err != nil {
		return err
	}
	if c.JSON {
		return r.printIndented(info)
	}
	now := r.now()
	r.facts("backend", info.BackendID,
		"key", info.Key.Name, "namespace", info.Key.Namespace, "tag", info.Key.Tag,
		"status", info.Status.String()+" for "+age(now.Sub(info.ChangedAt)),
		"", stateText(info.State),
		"age", age(now.Sub(info.CreatedAt)),
		"drone", info.Drone, "cluster", info.Cluster, "pool", info.Pool, "subdomain", info.Subdomain,
		"fencing", strconv.FormatInt(info.FencingToken, 10))
	r.facts(aboutText(&info, now)...)
	return nil
}

// watchCmd is `jetway watch`.
type watchCmd struct {
	clientFlags
	which
}

// Help is part of jetway watch --help.
func (c *watchCmd) Help() string { return "Without a backend it shows all of them, from now on." }

// Run shows events until the backend has ended or the user stops it.
func (c *watchCmd) Run(r *run) error {
	if err := c.check(false); err != nil {
		return err
	}
	nc, err := c.clientFlags.open(r)
	if err != nil {
		return err
	}
	defer nc.Close()
	if err := c.find(r, &c.clientFlags, nc); err != nil {
		return err
	}
	events := bus.WatchAll(r.ctx, nc)
	if c.Backend != "" {
		ended, err := printEnded(r, &c.clientFlags, nc, c.Backend, messages.Scheduled)
		if err != nil || ended {
			return stopped(r, err)
		}
		events = watchProgress(r, &c.clientFlags, nc, c.Backend)
	}
	for event, err := range events {
		if err != nil {
			return stopped(r, err)
		}
		r.printEvent(event, c.JSON, c.Backend == "")
	}
	return nil
}

// stopped forgives the error of a command that shows things until the user has
// seen enough.
func stopped(r *run, err error) error {
	if r.refused() == nil && r.ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// printEnded asks for a backend. Has it ended, its states from a number on are
// printed: what the stream of events still holds, and the last one in any case.
// So nobody waits for an event that is long forgotten. A worker that does not
// answer is no error here: events come without one.
func printEnded(r *run, f *clientFlags, nc *nats.Conn, backend string, from messages.Status) (bool, error) {
	info, err := ask[messages.BackendInfo](r, f, nc, messages.SubjectStatus, messages.StatusRequest{BackendID: backend})
	if messages.KindOf(err) == messages.Unavailable {
		r.log.Warn("no worker answers, events only", "err", err)
		return false, nil
	}
	if err != nil || info.Status != messages.Terminated {
		return false, err
	}
	ctx, cancel := context.WithTimeout(r.ctx, f.Timeout)
	defer cancel()
	events, err := bus.History(ctx, nc, backend)
	if err != nil {
		return false, err
	}
	if n := len(events); n == 0 || events[n-1].Status != messages.Terminated {
		events = append(events, messages.NewStateEvent(backend, info.ChangedAt, info.State))
	}
	for _, event := range events {
		if event.Status >= from {
			r.printEvent(event, f.JSON, false)
		}
	}
	return true, nil
}

// terminateCmd is `jetway terminate`.
type terminateCmd struct {
	clientFlags
	which
	Hard   bool   `help:"Kill it at once instead of asking it to end."`
	Reason string `placeholder:"TEXT" help:"Why, for whoever asks later why it ended."`
	NoWait bool   `help:"Do not wait until it has ended."`
}

// Run asks, then shows the backend's states until it has ended.
func (c *terminateCmd) Run(r *run) error {
	nc, err := c.which.open(r, &c.clientFlags)
	if err != nil {
		return err
	}
	defer nc.Close()
	req := messages.TerminateRequest{BackendID: c.Backend, Hard: c.Hard, By: whoAsks(), Reason: c.Reason}
	if _, err := ask[messages.Empty](r, &c.clientFlags, nc, messages.SubjectTerminate, req); err != nil {
		return err
	}
	if c.NoWait {
		if !c.JSON {
			r.printf("%s is asked to end\n", c.Backend)
		}
		return nil
	}
	ended, err := printEnded(r, &c.clientFlags, nc, c.Backend, messages.Terminating)
	if err != nil || ended {
		return err
	}
	for event, err := range bus.Watch(r.ctx, nc, c.Backend) {
		if err != nil {
			return err
		}
		if event.Status.Leaving() {
			r.printEvent(event, c.JSON, false)
		}
	}
	return nil
}

// backendsCmd is `jetway backends`.
type backendsCmd struct {
	clientFlags
	All   bool   `help:"Also those that have ended."`
	Drone string `placeholder:"NAME" help:"Only those of one drone."`
}

// Run lists backends.
func (c *backendsCmd) Run(r *run) error {
	if c.Drone != "" {
		if err := messages.CheckDroneName(c.Drone); err != nil {
			return invalid(err)
		}
	}
	nc, err := c.open(r)
	if err != nil {
		return err
	}
	defer nc.Close()
	list, err := listBackends(r, &c.clientFlags, nc, messages.BackendsRequest{Drone: c.Drone, All: c.All})
	if err != nil {
		return err
	}
	if c.JSON {
		return r.printIndented(list)
	}
	now := r.now()
	rows := make([][]string, 0, len(list))
	for i := range list {
		b := &list[i]
		rows = append(rows, []string{
			b.BackendID, keyText(b.Key), b.Status.String(), ageOf(b, now),
			b.Drone, b.Cluster, stateText(b.State),
		})
	}
	r.table([]string{"BACKEND", "KEY", "STATUS", "AGE", "DRONE", "CLUSTER", ""}, rows)
	return nil
}

func listBackends(r *run, f *clientFlags, nc *nats.Conn, req messages.BackendsRequest) ([]messages.BackendInfo, error) {
	list, err := pages(func(after string) ([]messages.BackendInfo, string, error) {
		req.After = after
		resp, err := ask[messages.BackendsResponse](r, f, nc, messages.SubjectBackends, req)
		return resp.Backends, resp.Next, err
	})
	if err != nil || req.Drone == "" || len(list) > 0 {
		return list, err
	}
	drones, err := listDrones(r, f, nc) // a name with a slip in it is not a drone without backends
	if err == nil && !slices.ContainsFunc(drones, func(d messages.DroneInfo) bool { return d.Drone == req.Drone }) {
		err = &failure{what: fmt.Sprintf("there is no drone %q", req.Drone), kind: string(messages.NotFound), do: seeDrones, code: ExitFailed}
	}
	return list, err
}

// pages follows a listing to its end.
func pages[T any](page func(after string) ([]T, string, error)) ([]T, error) {
	list := []T{}
	after := ""
	for {
		part, next, err := page(after)
		if err != nil {
			return nil, err
		}
		list = append(list, part...)
		if next == "" || next == after {
			return list, nil
		}
		after = next
	}
}
