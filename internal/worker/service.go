package worker

import (
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nuid"

	"github.com/jetway-project/jetway/internal/metrics"
	"github.com/jetway-project/jetway/messages"
)

// serviceName is what nats micro calls it.
const serviceName = "jetway"

// service is the worker's endpoints on the bus, and what nats micro ls, info and stats are told of them.
//
// It speaks the protocol of package micro, in that package's own types, and is not
// one of its services: those count what a handler does until it returns. Here a handler hands over to a
// lane, so every request would count as granted within microseconds.
type service struct {
	nc        *nats.Conn
	info      micro.Info
	started   time.Time
	endpoints []*endpoint
	subs      []*nats.Subscription
}

// endpoint is one subject that requests come to, and what became of them.
type endpoint struct {
	name, subject string
	lane          *lane
	metrics       *metrics.Endpoint
	sub           *nats.Subscription

	mu        sync.Mutex
	replies   int
	errors    int
	lastError string
	took      time.Duration // of all
}

// done counts a request that is replied to now.
func (e *endpoint) done(refusal *messages.Error, took time.Duration) {
	var kind messages.Kind
	if refusal != nil {
		kind = refusal.Kind
	}
	e.metrics.Done(kind, took)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.replies++
	e.took += took
	if refusal != nil {
		e.errors++
		e.lastError = refusal.CodeString() + ":" + refusal.Error()
	}
}

// stats is the endpoint for nats micro stats. What the client dropped, for more came than its handler could
// hand over, nobody was told: it counts as errors.
func (e *endpoint) stats() *micro.EndpointStats {
	dropped, _ := e.sub.Dropped()
	e.mu.Lock()
	defer e.mu.Unlock()
	return &micro.EndpointStats{
		Name: e.name, Subject: e.subject, QueueGroup: micro.DefaultQueueGroup,
		NumRequests: e.replies + dropped, NumErrors: e.errors + dropped, LastError: e.lastError,
		ProcessingTime: e.took, AverageProcessingTime: e.took / time.Duration(max(e.replies, 1)),
	}
}

// newService announces a service without endpoints.
func newService(nc *nats.Conn, version string, metadata map[string]string) *service {
	return &service{nc: nc, started: time.Now().UTC(), info: micro.Info{
		ServiceIdentity: micro.ServiceIdentity{Name: serviceName, ID: nuid.Next(), Version: semantic(version), Metadata: metadata},
		Type:            micro.InfoResponseType,
		Description:     "Session backends: give a key, get the URL of the one process that owns it",
		Endpoints:       []micro.EndpointInfo{},
	}}
}

// listen takes requests: handle must not wait, for it is called for one at a time.
func (s *service) listen(e *endpoint, handle func(*nats.Msg)) error {
	sub, err := s.nc.QueueSubscribe(e.subject, micro.DefaultQueueGroup, handle)
	if err == nil {
		err = sub.SetPendingLimits(pendingRequests, pendingBytes)
	}
	if err != nil {
		return fmt.Errorf("announce %s: %w", e.name, err)
	}
	e.sub = sub
	s.subs = append(s.subs, sub)
	s.endpoints = append(s.endpoints, e)
	s.info.Endpoints = append(s.info.Endpoints, micro.EndpointInfo{Name: e.name, Subject: e.subject, QueueGroup: micro.DefaultQueueGroup})
	return nil
}

// announce answers who looks for services. The endpoints are complete by then.
func (s *service) announce() error {
	for verb, answer := range map[micro.Verb]func() any{
		micro.PingVerb:  func() any { return micro.Ping{ServiceIdentity: s.info.ServiceIdentity, Type: micro.PingResponseType} },
		micro.InfoVerb:  func() any { return s.info },
		micro.StatsVerb: func() any { return s.stats() },
	} {
		for _, who := range [][2]string{{"", ""}, {serviceName, ""}, {serviceName, s.info.ID}} {
			subject, err := micro.ControlSubject(verb, who[0], who[1])
			if err != nil {
				return err
			}
			sub, err := s.nc.Subscribe(subject, func(msg *nats.Msg) {
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
	return s.nc.FlushTimeout(5 * time.Second)
}

func (s *service) stats() micro.Stats {
	all := micro.Stats{ServiceIdentity: s.info.ServiceIdentity, Type: micro.StatsResponseType, Started: s.started}
	for _, e := range s.endpoints {
		all.Endpoints = append(all.Endpoints, e.stats())
	}
	return all
}

// stop ends the subscriptions. What they have got is still handled.
func (s *service) stop() error {
	var first error
	for _, sub := range s.subs {
		if err := sub.Drain(); err != nil && first == nil {
			first = err
		}
	}
	return first
}
