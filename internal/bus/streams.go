package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/jetway-project/jetway/messages"
)

// duplicateWindow is how long a stream knows message ids. Publishing again after
// a crash comes within seconds; past it readers go by state number and backend
// id. The ids take memory in the server, so it is short.
const duplicateWindow = 20 * time.Second

// readTimeout bounds the wait for one answer of the server's.
const readTimeout = 5 * time.Second

// consumerUnused is after how long the server deletes the consumer of a drone that it
// does not hear from: one that a worker did not come to delete, or forgot with its database.
const consumerUnused = 7 * 24 * time.Hour

// Streams says how large the streams may become, and how many servers keep each. What is zero is as in
// [DefaultStreams].
type Streams struct {
	// Replicas is how many servers of a cluster keep each stream.
	Replicas int
	// Actions, Events and Logs are the most bytes of each. The server reserves them: an account that has less
	// cannot have the stream.
	Actions, Events, Logs int64
}

// DefaultStreams fit a server for Jetway alone.
var DefaultStreams = Streams{Replicas: 1, Actions: 256 << 20, Events: 2 << 30, Logs: 256 << 20}

// MinStream is the least that a stream may be given, in bytes: some of the largest messages.
const MinStream = 4 << 20

// OrDefault fills in what is zero.
func (s Streams) OrDefault() Streams {
	return Streams{
		Replicas: cmp.Or(s.Replicas, DefaultStreams.Replicas), Actions: cmp.Or(s.Actions, DefaultStreams.Actions),
		Events: cmp.Or(s.Events, DefaultStreams.Events), Logs: cmp.Or(s.Logs, DefaultStreams.Logs),
	}
}

// streams are what carries actions, events and output lines, and keeps certificates. All are bounded (I8): by age for a day like
// others, by size for a heavy one. A backend's life is 1 to 2 KiB of events in files; the server keeps some
// 130 bytes of memory for its subject, and looks its events up by that, however many there are.
func streams(of Streams) []jetstream.StreamConfig {
	of = of.OrDefault()
	return []jetstream.StreamConfig{{
		Name:        messages.StreamActions,
		Description: "Actions for drones; on record in Postgres until taken",
		Subjects:    []string{messages.SubjectAllActions},
		Retention:   jetstream.WorkQueuePolicy,
		Storage:     jetstream.MemoryStorage, // Postgres has them until they are taken: files would say it twice
		MaxAge:      10 * time.Minute,        // a drone refuses what is older; what it must still take is published again
		MaxBytes:    of.Actions,
		Replicas:    of.Replicas,
		// The least there is. What is published again is meant to be delivered again: the agent
		// that got it before may have died of it, and the server waits for that one's word (I3).
		Duplicates: 100 * time.Millisecond,
	}, {
		Name:              messages.StreamEvents,
		Description:       "States of backends, and what happens to drones and tokens",
		Subjects:          []string{messages.SubjectAllEvents},
		MaxAge:            24 * time.Hour,
		MaxMsgsPerSubject: 64,
		MaxBytes:          of.Events,
		AllowDirect:       true, // history without a consumer
		Replicas:          of.Replicas,
		Duplicates:        duplicateWindow,
	}, {
		Name:              messages.StreamLogs,
		Description:       "The last output lines of each backend",
		Subjects:          []string{messages.SubjectAllLogs},
		MaxAge:            time.Hour,
		MaxMsgsPerSubject: 200,
		MaxBytes:          of.Logs,
		AllowDirect:       true,
		NoAck:             true, // lines are published without waiting
		Replicas:          of.Replicas,
		Duplicates:        time.Second,
	}, {
		// A key-value bucket, as clients know it, but for direct get: that would deliver
		// what a proxy has written to any subject (see deploy/nats).
		Name:              messages.StreamCerts,
		Description:       "Certificates that proxies share, with their private keys",
		Subjects:          []string{messages.SubjectAllCerts},
		MaxMsgsPerSubject: 1,
		MaxMsgSize:        256 << 10,
		MaxBytes:          64 << 20, // an authority's certificate with its key takes some 8 KiB
		Discard:           jetstream.DiscardNew,
		DenyDelete:        true,
		AllowRollup:       true,
		Replicas:          of.Replicas,
		Duplicates:        duplicateWindow,
	}}
}

// EnsureStreams makes the streams or brings them up to date. It is for the start of
// a worker: see [MakeMissingStreams].
func EnsureStreams(ctx context.Context, js jetstream.JetStream, of Streams) error {
	for _, cfg := range streams(of) {
		if err := ensureStream(ctx, js, cfg); err != nil {
			return streamError(ctx, js, cfg, err)
		}
	}
	return nil
}

// noRoom says that an account or a server has less than a stream reserves: JetStream has a number for memory (10028), one for files
// (10047), one for an account's limits (10002) and more for clusters.
func noRoom(refused *jetstream.APIError) bool {
	return refused.ErrorCode == 10002 || strings.Contains(refused.Description, "insufficient")
}

// sizeFlags are those of jetway worker by which an operator says how large a stream may become.
var sizeFlags = map[string]string{
	messages.StreamActions: "--stream-actions", messages.StreamEvents: "--stream-events", messages.StreamLogs: "--stream-logs",
}

// streamError says why a stream could not be made, and, where there is no room for it, what it asked for,
// what there is and how to ask for less.
func streamError(ctx context.Context, js jetstream.JetStream, cfg jetstream.StreamConfig, err error) error {
	var refused *jetstream.APIError
	if !errors.As(err, &refused) || !noRoom(refused) {
		return fmt.Errorf("make stream %s: %w", cfg.Name, err)
	}
	kind, limit := "file storage (max_file)", func(l jetstream.AccountLimits) int64 { return l.MaxStore }
	used := func(t jetstream.Tier) uint64 { return t.ReservedStore }
	if cfg.Storage == jetstream.MemoryStorage {
		kind, limit = "memory (max_mem)", func(l jetstream.AccountLimits) int64 { return l.MaxMemory }
		used = func(t jetstream.Tier) uint64 { return t.ReservedMemory }
	}
	// Who may not ask gets no answer.
	asking, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	has := "the account or the server has less"
	if account, infoErr := js.AccountInfo(asking); infoErr == nil {
		tier := account.Tier
		if t, ok := account.Tiers[fmt.Sprintf("R%d", cfg.Replicas)]; ok {
			tier = t
		}
		has = fmt.Sprintf("the account has no limit, so it is the server that has less; %s are reserved by now", humanize.IBytes(used(tier)))
		if most := limit(tier.Limits); most >= 0 {
			has = fmt.Sprintf("the account's limit is %s, of which %s are reserved by now", humanize.IBytes(uint64(most)), humanize.IBytes(used(tier)))
		}
	}
	do := "raise that"
	if flag := sizeFlags[cfg.Name]; flag != "" {
		do = "give " + flag + " less, or raise that"
	}
	return fmt.Errorf("make stream %s: it reserves %s of %s on %d server(s), and %s: %s: %w",
		cfg.Name, humanize.IBytes(uint64(cfg.MaxBytes)), kind, cfg.Replicas, has, do, err)
}

// StreamsAnswer says whether the streams that workers publish to have a leader, without which JetStream takes
// nothing, and otherwise which has none.
func StreamsAnswer(ctx context.Context, js jetstream.JetStream) error {
	for _, name := range []string{messages.StreamActions, messages.StreamEvents} {
		stream, err := js.Stream(ctx, name)
		if err != nil {
			return fmt.Errorf("look at stream %s: %w", name, err)
		}
		if cluster := stream.CachedInfo().Cluster; cluster != nil && cluster.Name != "" && cluster.Leader == "" {
			return fmt.Errorf("stream %s has no leader", name)
		}
	}
	return nil
}

// The making of one thing waits for its answer, and asks again when none comes: a cluster of
// servers that is still choosing its leader says nothing at all, and of two workers that make the same
// at the same time neither may get an answer. It is patient with a server that is slow.
const (
	makeFirst = time.Second
	makeLast  = 4 * time.Second
)

// making does something until it is answered, or was not for as long as makeLast.
func making(ctx context.Context, do func(ctx context.Context) error) (err error) {
	for limit := makeFirst; limit <= makeLast && ctx.Err() == nil; limit *= 2 {
		asking, cancel := context.WithTimeout(ctx, limit)
		err = do(asking)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			break
		}
	}
	return err
}

func ensureStream(ctx context.Context, js jetstream.JetStream, cfg jetstream.StreamConfig) error {
	return making(ctx, func(ctx context.Context) error {
		_, err := js.CreateOrUpdateStream(ctx, cfg)
		if movedStorage(ctx, js, cfg, err) {
			return remake(ctx, js, cfg)
		}
		return err
	})
}

// movedStorage says whether err is that the stream of actions, as an earlier version
// made it, is stored elsewhere: the one thing that NATS never changes.
func movedStorage(ctx context.Context, js jetstream.JetStream, cfg jetstream.StreamConfig, err error) bool {
	var refused *jetstream.APIError
	if cfg.Name != messages.StreamActions || !errors.As(err, &refused) {
		return false
	}
	stream, err := js.Stream(ctx, cfg.Name)
	return err == nil && stream.CachedInfo().Config.Storage != cfg.Storage
}

// remake deletes a stream and makes it anew. Of actions nothing is lost: Postgres has
// them, and the drones register again when they find their consumers gone.
func remake(ctx context.Context, js jetstream.JetStream, cfg jetstream.StreamConfig) error {
	// Who may not delete it gets no answer.
	deleting, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if err := js.DeleteStream(deleting, cfg.Name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("it is of an earlier version and must be deleted, if need be by hand (nats stream rm %s): %w", cfg.Name, err)
	}
	_, err := js.CreateOrUpdateStream(ctx, cfg)
	return err
}

// MakeMissingStreams makes the streams that are not there, as on a server that lost its
// data, and leaves alone those that are: they may be of a newer worker than this.
func MakeMissingStreams(ctx context.Context, js jetstream.JetStream, of Streams) error {
	for _, cfg := range streams(of) {
		err := making(ctx, func(ctx context.Context) error {
			// Of a stream that is there and the same, nothing comes of this.
			_, err := js.CreateStream(ctx, cfg)
			if isThere(ctx, js, cfg.Name, err) {
				return nil
			}
			return err
		})
		if err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return streamError(ctx, js, cfg, err)
		}
	}
	return nil
}

// isThere says whether err is that a server has no room to make a stream that it has: a single server counts what the
// stream reserves once more, before it looks for it.
func isThere(ctx context.Context, js jetstream.JetStream, name string, err error) bool {
	var refused *jetstream.APIError
	if !errors.As(err, &refused) || !noRoom(refused) {
		return false
	}
	_, err = js.Stream(ctx, name)
	return err == nil
}

const (
	// MaxUnacknowledged bounds the actions that are under way to one drone (I8): at
	// their largest some 150 MiB, of the usual size less than one.
	MaxUnacknowledged = 512
	// ActionHeartbeat is how often a consumer without actions says that it is there.
	ActionHeartbeat = 5 * time.Second
)

// EnsureConsumer makes the durable consumer of a drone's actions and gives its name.
//
// It delivers by itself to one subject that it has for good. A consumer that is
// asked for each batch would deliver to wherever the one who asks says, with the rights
// of the server and not his: a drone could delete streams with it.
func EnsureConsumer(ctx context.Context, js jetstream.JetStream, drone string) (string, error) {
	cfg := jetstream.ConsumerConfig{
		Durable:        drone,
		FilterSubject:  messages.ActionSubject(drone),
		DeliverSubject: messages.DeliverSubject(drone),
		AckPolicy:      jetstream.AckExplicitPolicy,
		AckWait:        30 * time.Second,
		MaxAckPending:  MaxUnacknowledged,
		IdleHeartbeat:  ActionHeartbeat,
		// A drone that is there listens. One that comes back later registers.
		InactiveThreshold: consumerUnused,
	}
	err := making(ctx, func(ctx context.Context) error {
		_, err := js.CreateOrUpdatePushConsumer(ctx, messages.StreamActions, cfg)
		var refused *jetstream.APIError
		if errors.As(err, &refused) && !errors.Is(err, jetstream.ErrStreamNotFound) {
			// One of another kind is there. What it has not delivered is on record.
			if js.DeleteConsumer(ctx, messages.StreamActions, drone) == nil {
				_, err = js.CreateOrUpdatePushConsumer(ctx, messages.StreamActions, cfg)
			}
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("make the consumer of %s: %w", drone, err)
	}
	return drone, nil
}

// DeleteConsumer deletes the durable consumer of a drone's actions. None there, nothing to delete.
func DeleteConsumer(ctx context.Context, js jetstream.JetStream, drone string) error {
	err := js.DeleteConsumer(ctx, messages.StreamActions, drone)
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("delete the consumer of %s: %w", drone, err)
	}
	return nil
}

// PurgeActions drops what waits in the stream for a drone. What it must still take
// is on record, and is published again. No stream, nothing to drop.
func PurgeActions(ctx context.Context, js jetstream.JetStream, drone string) error {
	stream, err := js.Stream(ctx, messages.StreamActions)
	if err == nil {
		err = stream.Purge(ctx, jetstream.WithPurgeSubject(messages.ActionSubject(drone)))
	}
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("purge the actions of %s: %w", drone, err)
	}
	return nil
}
