package worker

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/jetway-project/jetway/internal/bus"
)

// othersTimeout bounds how long a worker that starts waits for the word of others.
const othersTimeout = 2 * time.Second

// Of what a worker says of itself on the bus, what is its own.
var own = map[string]bool{"worker": true, "version": true}

// metadata is what the worker says of itself on the bus: its own, and what workers have to agree in.
func (w *worker) metadata() map[string]string {
	streams := w.cfg.Streams
	return map[string]string{
		"worker": w.cfg.Name, "version": w.cfg.Version,
		"default_cluster": w.cfg.DefaultCluster,
		"token_lifetime":  w.cfg.TokenLifetime.String(),
		"token_keys":      strings.Join(w.cfg.Keys.IDs(), ","), // that can change while it runs
		"max_user_data":   strconv.Itoa(w.cfg.MaxUserData),
		"templates_only":  strconv.FormatBool(w.cfg.TemplatesOnly),
		"origin":          strconv.FormatBool(w.cfg.Origins),
		"retain":          w.cfg.Retain.String(),
		"start_within":    w.cfg.StartWithin.String(),
		"stream_replicas": strconv.Itoa(streams.Replicas),
		"stream_actions":  strconv.FormatInt(streams.Actions, 10),
		"stream_events":   strconv.FormatInt(streams.Events, 10),
		"stream_logs":     strconv.FormatInt(streams.Logs, 10),
	}
}

// compare asks the other workers what they say of themselves, and warns where they are set up differently:
// then it is chance, by which of them is asked, what a request gets.
func (w *worker) compare(ctx context.Context, self micro.ServiceIdentity) {
	all, _ := w.others(ctx) // the connection says what is wrong
	for _, other := range all {
		if other.ID == self.ID {
			continue
		}
		for _, what := range slices.Sorted(maps.Keys(self.Metadata)) {
			theirs, said := other.Metadata[what]
			if !own[what] && said && theirs != self.Metadata[what] {
				w.log.Warn("another worker is set up differently; give all workers the same flags",
					"other", other.Metadata["worker"], "what", what, "here", self.Metadata[what], "there", theirs)
			}
		}
	}
}

// others asks all workers what they say of themselves; this one answers, too.
func (w *worker) others(ctx context.Context) ([]micro.Stats, error) {
	ctx, cancel := context.WithTimeout(ctx, othersTimeout)
	defer cancel()
	return bus.Roll(ctx, w.nc, micro.PingVerb, serviceName)
}
