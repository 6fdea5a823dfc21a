package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// backendsCmd is `jetway backends`.
type backendsCmd struct {
	clientFlags
	All       bool              `help:"Also list those that have ended and are remembered (for a day)."`
	Drone     string            `placeholder:"NAME" predictor:"drone" help:"List those of one drone."`
	Key       string            `placeholder:"NAME" help:"List those of one key; with --all, also those that held it before."`
	Namespace *string           `placeholder:"NAME" help:"With --key, the namespace of the key. Otherwise, list those of all keys of a namespace."`
	Status    []messages.Status `placeholder:"STATUS" predictor:"status" help:"List those with this status; may be repeated. Terminated ones are listed without --all, too."`
	Since     time.Duration     `placeholder:"DURATION" help:"List those whose status has changed within this time."`
	Limit     int               `placeholder:"N" help:"List at most so many. Default: all."`
	Watch     bool              `help:"Then show each of them again when it changes, and a new one when it comes, until Ctrl-C."`
}

// Help is part of jetway backends --help.
func (c *backendsCmd) Help() string {
	return `Examples:
  jetway backends --status ready --drone dr-a
  jetway backends --all --since 10m              what has started, changed or ended
  jetway backends --all --key doc-1              all that have owned a key
  jetway backends --namespace team-1 --watch`
}

const (
	// watchLook is how long the command waits after a change before it lists again, so that many changes take one look.
	watchLook = time.Second
	// watchAnyway is after how many watchLooks it lists again although no event said that something has changed.
	watchAnyway = 10
)

// Run lists backends.
func (c *backendsCmd) Run(r *run) error {
	req, err := c.request()
	if err != nil {
		return err
	}
	nc, err := c.open(r)
	if err != nil {
		return err
	}
	defer nc.Close()
	if c.Watch {
		return seenEnough(r, c.watch(r, nc, req))
	}
	list, err := listBackends(r, &c.clientFlags, nc, req, c.Limit)
	if err != nil {
		return err
	}
	if c.JSON {
		return r.printIndented(list)
	}
	r.table(backendsHeader, backendRows(list, r.now()))
	return nil
}

// request is what is asked for. Its errors name flags.
func (c *backendsCmd) request() (req messages.BackendsRequest, err error) {
	req = messages.BackendsRequest{Drone: c.Drone, All: c.All, Statuses: c.Status}
	switch {
	case c.Key != "":
		req.Key = &messages.Key{Name: c.Key}
		if c.Namespace != nil {
			req.Key.Namespace = *c.Namespace
		}
	default:
		req.Namespace = c.Namespace
	}
	if req.ChangedWithinSeconds, err = seconds("--since", c.Since); err != nil {
		return req, err
	}
	switch {
	case c.Limit < 0:
		return req, usagef("--limit: must be 1 or more, not %d", c.Limit)
	case c.Watch && c.Limit > 0:
		return req, usagef("--limit: not with --watch, which shows what comes")
	case c.Watch && c.Since > 0:
		return req, usagef("--since: not with --watch, which shows what changes from now on")
	}
	if _, err := messages.Decode[messages.BackendsRequest](messages.Encode(req)); err != nil {
		return req, invalid(err)
	}
	return req, nil
}

var backendsHeader = []string{"BACKEND", "KEY", "STATUS", "AGE", "DRONE", "CLUSTER", ""}

func backendRows(list []messages.BackendInfo, now time.Time) [][]string {
	rows := make([][]string, len(list))
	for i := range list {
		b := &list[i]
		rows[i] = []string{
			b.BackendID, keyText(b.Key), statusText(b), ageOf(b, now), b.Drone, b.Cluster, stateText(b.State),
		}
	}
	return rows
}

// watch shows the backends of a list, then each one again that changes; one that leaves the list is shown with its last state. It lists again
// when an event says that something has happened, because the workers decide what belongs to the list.
func (c *backendsCmd) watch(r *run, nc *nats.Conn, req messages.BackendsRequest) error {
	happened := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(r.ctx)
	failed := make(chan error, 1)
	go func() {
		for _, err := range client.New(nc).WatchAll(ctx) {
			if err != nil {
				failed <- err
				return
			}
			select {
			case happened <- struct{}{}:
			default:
			}
		}
		failed <- ctx.Err()
	}()
	defer func() { cancel(); <-failed }()
	var table *columns
	shown := make(map[string]messages.BackendInfo)
	ticker := r.ticker(watchLook)
	defer ticker.Stop()
	for quiet := watchAnyway; ; {
		if quiet >= watchAnyway {
			quiet = 0
			news, err := c.news(r, nc, req, shown)
			switch {
			case err != nil && (table == nil || messages.KindOf(err) != messages.Unavailable):
				return err
			case err != nil:
				r.log.Warn("cannot list the backends, trying again", "err", err)
			default:
				table = c.show(r, table, news)
			}
		}
		select {
		case <-ticker.C:
			quiet++
			select {
			case <-happened:
				quiet = watchAnyway
			default:
			}
		case err := <-failed:
			failed <- err
			return err
		}
	}
}

// news gives what has changed since the last look, and remembers it for the next one.
func (c *backendsCmd) news(r *run, nc *nats.Conn, req messages.BackendsRequest, shown map[string]messages.BackendInfo) (news []messages.BackendInfo, err error) {
	list, err := listBackends(r, &c.clientFlags, nc, req, 0)
	if err != nil {
		return nil, err
	}
	there := make(map[string]bool, len(list))
	for i := range list {
		b := &list[i]
		there[b.BackendID] = true
		if before, ok := shown[b.BackendID]; !ok || before.Status != b.Status || before.Message != b.Message || before.Asleep != b.Asleep || before.Drone != b.Drone {
			news = append(news, *b)
		}
		shown[b.BackendID] = *b
	}
	for id := range shown {
		if there[id] {
			continue
		}
		info, err := ask[messages.BackendInfo](r, &c.clientFlags, nc, messages.SubjectStatus, messages.StatusRequest{BackendID: id})
		switch {
		case err == nil:
			news = append(news, info)
		case messages.KindOf(err) != messages.NotFound:
			return nil, err
		}
		delete(shown, id)
	}
	return news, nil
}

// show prints what is new. The first time it prints a table with a header, and returns its columns.
func (c *backendsCmd) show(r *run, table *columns, news []messages.BackendInfo) *columns {
	rows := backendRows(news, r.now())
	if table == nil {
		rows = slices.Insert(rows, 0, backendsHeader)
		table = r.columns(rows...)
	} else {
		table.fit(rows)
	}
	for i := range news {
		if c.JSON {
			r.printJSON(&news[i])
		}
	}
	for _, row := range rows {
		if !c.JSON {
			r.printf("%s\n", table.line(row))
		}
	}
	return table
}

// listBackends lists at most so many backends; 0: all. A drone that does not exist is an error, not an empty list.
func listBackends(r *run, f *clientFlags, nc *nats.Conn, req messages.BackendsRequest, limit int) ([]messages.BackendInfo, error) {
	list, err := pages(limit, func(page messages.Page) ([]messages.BackendInfo, string, error) {
		req.Page = page
		resp, err := ask[messages.BackendsResponse](r, f, nc, messages.SubjectBackends, req)
		return resp.Backends, resp.Next, err
	})
	if err != nil || len(list) > 0 {
		return list, err
	}
	if req.Drone != "" {
		drones, err := listDrones(r, f, nc)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(drones, func(d messages.DroneInfo) bool { return d.Drone == req.Drone }) {
			return nil, &failure{what: fmt.Sprintf("there is no drone %q", req.Drone), kind: string(messages.NotFound), do: seeDrones, code: ExitFailed}
		}
	}
	if req.Key != nil {
		_, err = ask[messages.BackendInfo](r, f, nc, messages.SubjectStatus, messages.StatusRequest{Key: req.Key})
	}
	return list, err
}

// pages follows a listing to its end, or until it has given so many; 0: to its end.
func pages[T any](limit int, page func(messages.Page) ([]T, string, error)) ([]T, error) {
	list := []T{}
	var p messages.Page
	for {
		if limit > 0 {
			p.Limit = min(limit-len(list), messages.MaxPage)
		}
		part, next, err := page(p)
		if err != nil {
			return nil, err
		}
		list = append(list, part...)
		if next == "" || next == p.After || limit > 0 && len(list) >= limit {
			return list, nil
		}
		p.After = next
	}
}
