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
var own = map[string]bool{"worker": true, "version": true, "database": true}

// metadata is what the worker says of itself on the bus: its own, and what workers have to agree in.
func (w *worker) metadata() map[string]string {
	streams := w.cfg.Streams
	return map[string]string{
		"worker": w.cfg.Name, "version": w.cfg.Version,
		"database":        w.store.Database(), // "" while it is not known
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

// watchOthers compares this worker with the others until ctx ends.
func (w *worker) watchOthers(ctx context.Context, self micro.ServiceIdentity) {
	var suspect string
	told := map[string]bool{}
	for {
		all, _ := w.others(ctx) // the connection says what is wrong
		all = slices.DeleteFunc(all, func(s micro.Stats) bool { return s.ID == self.ID })
		w.compare(all, told)
		pause := w.cfg.CompareEvery
		// Of two workers one hears first that the database was failed over: so they must differ twice.
		other, there := w.apart(all)
		switch {
		case other == "":
			if w.elsewhere.Swap(nil) != nil {
				w.log.Info("all workers answer from the same database again")
			}
		case other+there != suspect:
			pause = min(pause, othersTimeout)
		case w.elsewhere.Swap(&other) == nil:
			w.log.Error("another worker answers from another database: drones go back and forth between the two, and sessions end; stop the worker whose --postgres is wrong",
				"other", other, "here", w.store.Database(), "there", there)
		}
		suspect = other + there
		if !sleep(ctx, pause) {
			return
		}
	}
}

// compare warns where the other workers are set up differently: then it is chance, by which of them is asked, what a request gets. Each is told
// of once, whenever it is heard first: one that is busy, or starts at the same moment, may not answer the first time.
func (w *worker) compare(all []micro.Stats, told map[string]bool) {
	here := w.metadata()
	for _, other := range all {
		if told[other.ID] {
			continue
		}
		told[other.ID] = true
		if other.Metadata["worker"] == w.cfg.Name {
			w.log.Warn("another worker has this one's name: logs and lists do not tell them apart; give each its own --name", "other_started", other.Started)
		}
		for _, what := range slices.Sorted(maps.Keys(here)) {
			theirs, said := other.Metadata[what]
			if !own[what] && said && theirs != here[what] {
				w.log.Warn("another worker is set up differently; give all workers the same flags",
					"other", other.Metadata["worker"], "what", what, "here", here[what], "there", theirs)
			}
		}
	}
}

// apart gives another worker that is at another database than this one, as far as both know where they are.
func (w *worker) apart(all []micro.Stats) (other, there string) {
	here := w.store.Database()
	for i := range all {
		there := all[i].Metadata["database"]
		if here != "" && there != "" && there != here {
			return all[i].Metadata["worker"], there
		}
	}
	return "", ""
}

// awaitOneDatabase waits, before this worker answers anything, until no other answers from another database: two of them
// would give a key away twice (I1). Who is led to another one while it runs cannot wait, and says so: see watchOthers.
func (w *worker) awaitOneDatabase(ctx context.Context) {
	if w.store.Database() == "" { // a copy that this worker has just found is looked at once more
		_ = w.look(ctx) // it is looked at every second, and the log says then what is wrong
	}
	for told := ""; ; {
		all, _ := w.others(ctx)
		other, there := w.apart(all)
		if other == "" {
			w.elsewhere.Store(nil)
			return
		}
		w.elsewhere.Store(&other)
		if other+there != told {
			told = other + there
			w.log.Error("another worker answers from another database: this one answers nothing until that one has left it; stop it, or give this one its --postgres",
				"other", other, "here", w.store.Database(), "there", there)
		}
		if !sleep(ctx, w.cfg.SweepEvery) {
			return
		}
		if err := w.look(ctx); err != nil {
			w.log.Warn("cannot look at the database", "err", err)
		}
	}
}

// sleep says whether ctx has not ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// others asks all workers what they say of themselves; this one answers, too.
func (w *worker) others(ctx context.Context) ([]micro.Stats, error) {
	ctx, cancel := context.WithTimeout(ctx, othersTimeout)
	defer cancel()
	return bus.Roll(ctx, w.nc, micro.PingVerb, serviceName)
}
