package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nuid"

	"github.com/jetway-project/jetway/messages"
)

// Service is what a role says of itself to who looks for services: nats micro ls, info and stats, and the commands
// that list workers and proxies.
//
// It speaks the protocol of package micro, in that package's own types, and is not one of its services: those
// take over the connection's handlers, and end themselves when it reports something.
type Service struct {
	Info    micro.Info
	Started time.Time
	// Metadata, if set, is that of Info from now on: for what changes while the role runs.
	Metadata func() map[string]string
	// Endpoints are what each endpoint has done; nil: there are none.
	Endpoints func() []*micro.EndpointStats

	subs []*nats.Subscription
}

// NewService describes one run of a role.
func NewService(name, description, version string, metadata map[string]string) *Service {
	return &Service{Started: time.Now().UTC(), Info: micro.Info{
		ServiceIdentity: micro.ServiceIdentity{Name: name, ID: nuid.Next(), Version: semantic(version), Metadata: metadata},
		Type:            micro.InfoResponseType,
		Description:     description,
		Endpoints:       []micro.EndpointInfo{},
	}}
}

var semver = regexp.MustCompile(`^v?(\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?)$`)

// semantic gives the version as the service protocol wants it; builds from a
// checkout have none.
func semantic(version string) string {
	if m := semver.FindStringSubmatch(version); m != nil {
		return m[1]
	}
	return "0.0.0"
}

// Announce answers who looks for services, until Conceal. Info is complete by then.
func (s *Service) Announce(nc *nats.Conn) error {
	for verb, answer := range map[micro.Verb]func() any{
		micro.PingVerb:  func() any { return micro.Ping{ServiceIdentity: s.identity(), Type: micro.PingResponseType} },
		micro.InfoVerb:  func() any { return s.info() },
		micro.StatsVerb: func() any { return s.stats() },
	} {
		for _, who := range [][2]string{{"", ""}, {s.Info.Name, ""}, {s.Info.Name, s.Info.ID}} {
			subject, err := micro.ControlSubject(verb, who[0], who[1])
			if err != nil {
				return err
			}
			sub, err := nc.Subscribe(subject, func(msg *nats.Msg) {
				if msg.Reply != "" && messages.MayReplyTo(msg.Reply) {
					_ = msg.Respond(messages.Encode(answer()))
				}
			})
			if err == nil {
				err = sub.SetPendingLimits(1024, 1<<20)
			}
			if err != nil {
				return fmt.Errorf("announce the service: %w", err)
			}
			s.subs = append(s.subs, sub)
		}
	}
	return nil
}

func (s *Service) identity() micro.ServiceIdentity {
	identity := s.Info.ServiceIdentity
	if s.Metadata != nil {
		identity.Metadata = s.Metadata()
	}
	return identity
}

func (s *Service) info() micro.Info {
	info := s.Info
	info.ServiceIdentity = s.identity()
	return info
}

func (s *Service) stats() micro.Stats {
	all := micro.Stats{ServiceIdentity: s.identity(), Type: micro.StatsResponseType, Started: s.Started, Endpoints: []*micro.EndpointStats{}}
	if s.Endpoints != nil {
		all.Endpoints = s.Endpoints()
	}
	return all
}

// Conceal ends that. What has been asked is still answered.
func (s *Service) Conceal() error {
	var first error
	for _, sub := range s.subs {
		if err := sub.Drain(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// rollQuiet is for how long nobody more has to answer until all are taken to have done so. The first one may take as long as
// ctx lives: the server says at once if there is none.
const rollQuiet = 500 * time.Millisecond

// Roll asks the services of a name what they say of themselves, and gives what comes until nobody more answers, or ctx
// ends: nobody knows how many there are. micro.StatsVerb asks for all of it, micro.PingVerb for who they are alone, with their metadata.
func Roll(ctx context.Context, nc *nats.Conn, verb micro.Verb, name string) ([]micro.Stats, error) {
	subject, err := micro.ControlSubject(verb, name, "")
	if err != nil {
		return nil, err
	}
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, unavailable(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.PublishRequest(subject, inbox, nil); err != nil {
		return nil, unavailable(err)
	}
	var all []micro.Stats
	for {
		quiet, cancel := ctx, context.CancelFunc(func() {})
		if len(all) > 0 {
			quiet, cancel = context.WithTimeout(ctx, rollQuiet)
		}
		msg, err := sub.NextMsgWithContext(quiet)
		cancel()
		var stats micro.Stats
		switch {
		case err == nil && json.Unmarshal(msg.Data, &stats) == nil:
			all = append(all, stats)
		case err == nil: // of a newer version
		case ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded):
			return nil, ctx.Err()
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrNoResponders):
			return all, nil
		default:
			return nil, unavailable(err)
		}
	}
}

// unavailable is a server that does not answer, or the end of the caller's ctx.
func unavailable(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, nats.ErrConnectionClosed) {
		return err
	}
	return messages.Errorf(messages.Unavailable, "the NATS server does not answer: %v", err)
}
