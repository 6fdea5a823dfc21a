package worker

import (
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/metrics"
	"github.com/jetway-project/jetway/messages"
)

// serviceName is what nats micro calls it.
const serviceName = messages.ServiceWorkers

// service is the worker's endpoints on the bus, and what nats micro ls, info and stats are told of them. A handler hands
// over to a lane, so what became of a request counts when it is replied to, not when the handler returns.
type service struct {
	*bus.Service
	nc        *nats.Conn
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

// newService describes a service without endpoints.
func newService(nc *nats.Conn, version string, metadata map[string]string) *service {
	s := &service{nc: nc}
	s.Service = bus.NewService(serviceName, "Session backends: give a key, get the URL of the one process that owns it", version, metadata)
	s.Endpoints = func() (all []*micro.EndpointStats) {
		for _, e := range s.endpoints {
			all = append(all, e.stats())
		}
		return all
	}
	return s
}

// listen takes requests, of which so many bytes may wait in the client: handle must not wait, for it is called for one at a time.
func (s *service) listen(e *endpoint, pending int, handle func(*nats.Msg)) error {
	sub, err := s.nc.QueueSubscribe(e.subject, micro.DefaultQueueGroup, handle)
	if err == nil {
		err = sub.SetPendingLimits(pendingRequests, pending)
	}
	if err != nil {
		return fmt.Errorf("announce %s: %w", e.name, err)
	}
	e.sub = sub
	s.subs = append(s.subs, sub)
	s.endpoints = append(s.endpoints, e)
	s.Info.Endpoints = append(s.Info.Endpoints, micro.EndpointInfo{Name: e.name, Subject: e.subject, QueueGroup: micro.DefaultQueueGroup})
	return nil
}

// announce answers who looks for services. The endpoints are complete by then.
func (s *service) announce() error {
	if err := s.Announce(s.nc); err != nil {
		return err
	}
	return s.nc.FlushTimeout(5 * time.Second)
}

// stop ends the subscriptions. What they have got is still handled.
func (s *service) stop() error {
	first := s.Conceal()
	for _, sub := range s.subs {
		if err := sub.Drain(); err != nil && first == nil {
			first = err
		}
	}
	return first
}
