package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/messages"
)

// workersCmd is `jetway workers`.
type workersCmd struct{ clientFlags }

// Help is part of jetway workers --help.
func (c *workersCmd) Help() string {
	return "Each worker that is connected to the NATS server answers for itself, so one that hangs or is away is not shown. Requests and errors count since its start."
}

// Run lists workers.
func (c *workersCmd) Run(r *run) error {
	list, err := c.roll(r, messages.ServiceWorkers, "worker")
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return &failure{what: "no worker answers", kind: string(messages.Unavailable), do: advice[messages.Unavailable], code: ExitUnavailable}
	}
	if c.JSON {
		return r.printIndented(list)
	}
	rows := make([][]string, len(list))
	for i := range list {
		m := &list[i]
		rows[i] = []string{m.Name, m.Version, age(r.now().Sub(m.Started)), strconv.Itoa(m.Requests), strconv.Itoa(m.Errors), m.settings()}
	}
	r.table([]string{"WORKER", "VERSION", "UP", "REQUESTS", "ERRORS", "SETTINGS"}, rows)
	r.noteTwins("workers", list)
	for _, what := range differences(list) {
		r.notef("jetway: the workers have different values for %s: what a request gets depends on which of them takes it; give all the same", what)
	}
	return nil
}

// proxiesCmd is `jetway proxies`.
type proxiesCmd struct{ clientFlags }

// Help is part of jetway proxies --help.
func (c *proxiesCmd) Help() string {
	return "Each proxy that is connected to the NATS server answers for itself, so one that is away is not shown."
}

// Run lists proxies.
func (c *proxiesCmd) Run(r *run) error {
	list, err := c.roll(r, messages.ServiceProxies, "proxy")
	if err != nil {
		return err
	}
	if c.JSON {
		return r.printIndented(list)
	}
	rows := make([][]string, len(list))
	for i := range list {
		m := &list[i]
		rows[i] = []string{m.Name, m.Version, age(r.now().Sub(m.Started)), m.settings()}
	}
	r.table([]string{"PROXY", "VERSION", "UP", "SETTINGS"}, rows)
	r.noteTwins("proxies", list)
	return nil
}

// noteTwins says which of the list, which is sorted, have one name.
func (r *run) noteTwins(what string, list []member) {
	for i := range list {
		if i > 0 && list[i].Name == list[i-1].Name && (i == 1 || list[i].Name != list[i-2].Name) {
			r.notef("jetway: more than one of the %s is called %s: logs and lists do not tell them apart; give each its own --name", what, list[i].Name)
		}
	}
}

// member is a worker or a proxy, as it says of itself.
type member struct {
	Name     string            `json:"name"`
	Version  string            `json:"version"`
	Started  time.Time         `json:"started"`
	Requests int               `json:"requests"`
	Errors   int               `json:"errors"`
	Settings map[string]string `json:"settings"`
}

func (m *member) settings() string {
	words := make([]string, 0, len(m.Settings))
	for _, what := range slices.Sorted(maps.Keys(m.Settings)) {
		if m.Settings[what] != "" {
			words = append(words, what+"="+m.Settings[what])
		}
	}
	return strings.Join(words, " ")
}

// roll asks the workers, or the proxies, who they are, and sorts them by name.
func (f *clientFlags) roll(r *run, service, role string) ([]member, error) {
	nc, err := f.open(r)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(r.ctx, f.Timeout)
	defer cancel()
	answers, err := bus.Roll(ctx, nc, micro.StatsVerb, service)
	if err != nil {
		return nil, err
	}
	list := make([]member, 0, len(answers))
	for i := range answers {
		list = append(list, memberOf(&answers[i], role))
	}
	slices.SortFunc(list, func(a, b member) int { return cmp.Or(strings.Compare(a.Name, b.Name), a.Started.Compare(b.Started)) })
	return list, nil
}

func memberOf(s *micro.Stats, role string) member {
	m := member{Name: s.Metadata[role], Version: cmp.Or(s.Metadata["version"], s.Version), Started: s.Started, Settings: maps.Clone(s.Metadata)}
	if m.Settings == nil {
		m.Settings = map[string]string{}
	}
	delete(m.Settings, role)
	delete(m.Settings, "version")
	for _, e := range s.Endpoints {
		m.Requests, m.Errors = m.Requests+e.NumRequests, m.Errors+e.NumErrors
	}
	return m
}

// differences are the settings that all workers state and in which they differ, with their values.
func differences(list []member) (what []string) {
	for _, name := range slices.Sorted(maps.Keys(list[0].Settings)) {
		values := make(map[string]bool)
		for i := range list {
			if value, said := list[i].Settings[name]; said && (value != "" || name != "database") { // it does not know yet
				values[value] = true
			}
		}
		if len(values) > 1 {
			what = append(what, fmt.Sprintf("%s (%s)", name, strings.Join(slices.Sorted(maps.Keys(values)), ", ")))
		}
	}
	return what
}
