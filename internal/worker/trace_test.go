package worker_test

import (
	"compress/gzip"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/jetway-project/jetway/internal/drone"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/internal/tracing"
	"github.com/jetway-project/jetway/internal/worker"
	"github.com/jetway-project/jetway/messages"
)

// receiver is a collector that keeps the spans it is sent, each named
// service/span.
type receiver struct {
	url   string
	mu    sync.Mutex
	spans map[string][]*otlp.Span
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{spans: map[string][]*otlp.Span{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if err := r.take(req); err != nil {
			t.Errorf("what was sent to the collector: %v", err)
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func (r *receiver) take(req *http.Request) error {
	if req.Method != http.MethodPost || req.URL.Path != "/v1/traces" {
		return fmt.Errorf("%s %s", req.Method, req.URL.Path)
	}
	body := io.Reader(req.Body)
	if req.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			return err
		}
		body = unzipped
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	var sent collector.ExportTraceServiceRequest
	if err := proto.Unmarshal(data, &sent); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, resource := range sent.GetResourceSpans() {
		service := ""
		for _, a := range resource.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				name := service + "/" + span.GetName()
				r.spans[name] = append(r.spans[name], span)
			}
		}
	}
	return nil
}

// all gives the names of all spans and how many there are of each.
func (r *receiver) all() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := map[string]int{}
	for name, spans := range r.spans {
		n[name] = len(spans)
	}
	return n
}

func (r *receiver) tracer(t *testing.T, role string) *tracing.Tracer {
	t.Helper()
	tracer, err := tracing.Open(t.Context(), tracing.Config{Endpoint: r.url, Role: role, Name: "x", Log: testkit.Logger(t)})
	must(t, err)
	t.Cleanup(tracer.Close)
	return tracer
}

// startTracedDrone runs a real drone on the fake runtime and gives what ends it.
func startTracedDrone(t *testing.T, w *world, tracer *tracing.Tracer) (stop func()) {
	t.Helper()
	rt := fake.New()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	nc := natstest.Conn(t, w.url)
	cfg := droneConfig("dr-a")
	cfg.Tracer, cfg.Log, cfg.OnReady = tracer, testkit.Logger(t), func() { close(ready) }
	go func() { ended <- drone.Run(ctx, cfg, nc, rt) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the drone: %v", err)
		}
		_ = rt.Close()
	})
	t.Cleanup(stop)
	<-ready
	return stop
}

// awaitStatus waits until a backend has reached a status.
func awaitStatus(t *testing.T, w *world, backend string, status messages.Status) {
	t.Helper()
	testkit.Eventually(t, backend+" is "+status.String(), func() bool { return w.status(backend).Status == status })
}

const (
	asker   = "00f067aa0ba902b7"
	traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
)

func (w *world) connectTraced(t *testing.T, req messages.ConnectRequest, traceparent string) messages.ConnectResponse {
	t.Helper()
	resp, refusal := w.awaitConnect(w.send(messages.SubjectConnect, messages.Encode(req), nats.Header{"traceparent": {traceparent}}))
	if refusal != nil {
		t.Fatalf("connect was refused: %v", refusal)
	}
	return resp
}

func TestTraceFollowsASpawnFromTheWebTierToReady(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := newReceiver(t)
	backend := httptest.NewServer(http.NotFoundHandler()) // what the drone probes
	t.Cleanup(backend.Close)
	workerTracer, droneTracer := r.tracer(t, "worker"), r.tracer(t, "drone")
	stopWorker := startWorker(t, w, "wo-a", options{change: func(c *worker.Config) { c.Tracer = workerTracer }})
	stopDrone := startTracedDrone(t, w, droneTracer)

	req := spawnKey("doc")
	req.SpawnConfig.Executable = fake.Script{Address: strings.TrimPrefix(backend.URL, "http://")}.Executable()
	resp := w.connectTraced(t, req, "00-"+traceID+"-"+asker+"-01")
	awaitStatus(t, w, resp.BackendID, messages.Ready)
	// One that the asker does not sample leaves no trace, here or at the drone.
	unsampled := spawnKey("unsampled")
	id := w.connectTraced(t, unsampled, "00-"+strings.Repeat("5", 32)+"-"+asker+"-00").BackendID
	awaitStatus(t, w, id, messages.Ready)
	stopDrone()
	stopWorker()
	droneTracer.Close()
	workerTracer.Close()

	want := map[string]string{ // by parent
		"jetway-worker/connect":       "",
		"jetway-worker/statement":     "jetway-worker/connect",
		"jetway-worker/publish spawn": "jetway-worker/connect",
		"jetway-drone/spawn":          "jetway-worker/publish spawn",
		"jetway-drone/prepare":        "jetway-drone/spawn",
		"jetway-drone/start":          "jetway-drone/spawn",
		"jetway-drone/ready":          "jetway-drone/spawn",
	}
	got := r.all()
	if len(got) != len(want) {
		t.Errorf("the spans are %v", got)
	}
	for name, parent := range want {
		// Until its drone has shown that it has taken it, a spawn is published again every 5 s.
		if again := got[name] > 1 && strings.HasPrefix(name, "jetway-worker/publish "); got[name] != 1 && !again {
			t.Errorf("%d spans %s, want 1", got[name], name)
			continue
		}
		span := r.spans[name][0]
		if id := hex.EncodeToString(span.GetTraceId()); id != traceID {
			t.Errorf("%s is in the trace %s", name, id)
		}
		parents := []string{asker}
		if parent != "" {
			parents = nil
			for _, p := range r.spans[parent] {
				parents = append(parents, hex.EncodeToString(p.GetSpanId()))
			}
		}
		if id := hex.EncodeToString(span.GetParentSpanId()); !slices.Contains(parents, id) {
			t.Errorf("the parent of %s is %s, want one of %s (%s)", name, id, parents, parent)
		}
		if span.GetStatus().GetCode() == otlp.Status_STATUS_CODE_ERROR || span.GetEndTimeUnixNano() < span.GetStartTimeUnixNano() {
			t.Errorf("%s is %v", name, span)
		}
	}
	if got["jetway-drone/ready"] == 1 && got["jetway-worker/connect"] == 1 &&
		r.spans["jetway-drone/ready"][0].GetEndTimeUnixNano() <= r.spans["jetway-worker/connect"][0].GetStartTimeUnixNano() {
		t.Error("it was ready before it was asked for")
	}
}

// What fails says so in the trace, and without a traceparent a connect begins one.
func TestTraceSaysWhereAStartFailed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := newReceiver(t)
	workerTracer, droneTracer := r.tracer(t, "worker"), r.tracer(t, "drone")
	startWorker(t, w, "wo-a", options{change: func(c *worker.Config) { c.Tracer = workerTracer }})
	startTracedDrone(t, w, droneTracer)
	req := spawnKey("doc")
	req.SpawnConfig.Executable = fake.Script{StartError: "exec format error"}.Executable()
	awaitStatus(t, w, w.connect(req).BackendID, messages.Terminated)
	droneTracer.Close()
	workerTracer.Close()

	r.mu.Lock()
	defer r.mu.Unlock()
	trace := ""
	for _, name := range []string{"jetway-worker/connect", "jetway-drone/prepare", "jetway-drone/start", "jetway-drone/spawn"} {
		if len(r.spans[name]) != 1 {
			t.Fatalf("%d spans %s, want 1", len(r.spans[name]), name)
		}
		span := r.spans[name][0]
		failed := name == "jetway-drone/start" || name == "jetway-drone/spawn"
		if (span.GetStatus().GetMessage() == "exec format error") != failed {
			t.Errorf("the status of %s is %v", name, span.GetStatus())
		}
		if id := hex.EncodeToString(span.GetTraceId()); trace != "" && id != trace {
			t.Errorf("%s is in another trace", name)
		} else {
			trace = id
		}
	}
	if len(r.spans["jetway-worker/connect"][0].GetParentSpanId()) != 0 {
		t.Error("a connect without a traceparent has a parent")
	}
	if len(r.spans["jetway-worker/heartbeat"])+len(r.spans["jetway-worker/report"]) != 0 {
		t.Error("what belongs to no trace has begun one")
	}
}

// Without a tracer the asker's context still reaches the drone as it came.
func TestTraceparentIsPassedOnWhenTracesAreOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	startPeer(t, w, "dr-a")
	arrived := make(chan *nats.Msg, 1)
	_, err := w.nc.ChanSubscribe(messages.ActionSubject("dr-a"), arrived)
	must(t, err)
	must(t, w.nc.FlushTimeout(testkit.Patience))
	traceparent := "00-" + traceID + "-" + asker + "-01"
	w.connectTraced(t, spawnKey("doc"), traceparent)
	if got := (<-arrived).Header.Get("traceparent"); got != traceparent {
		t.Errorf("the action carries %q", got)
	}
}
