package drone_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/jetway-project/jetway/internal/drone"
	"github.com/jetway-project/jetway/internal/metrics"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// playClaimable is a program that can be claimed, as TEST_CLAIM says.
func playClaimable() {
	how := os.Getenv("TEST_CLAIM")
	agent := os.Getppid()
	var claimed atomic.Value
	if how == "dies" {
		fmt.Println("no database")
		os.Exit(3)
	}
	fmt.Println("loaded")
	mux := http.NewServeMux()
	mux.HandleFunc("POST /claim", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Println("asked to be", string(body))
		switch how {
		case "refuses":
			http.Error(w, "no", http.StatusInternalServerError)
			return
		case "silent":
			<-r.Context().Done()
			return
		case "redirects":
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
			return
		case "exits":
			os.Exit(4)
		case "kills":
			_ = syscall.Kill(agent, syscall.SIGKILL)
			<-r.Context().Done()
			return
		case "kills-then-takes":
			_ = syscall.Kill(agent, syscall.SIGKILL)
		}
		claimed.Store(string(body))
	})
	mux.HandleFunc("/elsewhere", func(http.ResponseWriter, *http.Request) { claimed.Store("elsewhere") })
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		text, _ := claimed.Load().(string)
		w.Header().Set("X-Claim", text)
		w.Header().Set("X-Pid", strconv.Itoa(os.Getpid()))
		w.Header().Set("X-Spare", os.Getenv("SESSION_BACKEND_SPARE"))
		w.Header().Set("X-Key", os.Getenv("SESSION_BACKEND_KEY"))
	})
	server := &http.Server{Addr: "127.0.0.1:" + os.Getenv("PORT"), ReadHeaderTimeout: time.Minute, Handler: mux}
	fmt.Println(server.ListenAndServe())
	os.Exit(1)
}

func claimable(how string) json.RawMessage {
	return messages.Encode(map[string]any{"command": []string{"backend"}, "env": map[string]string{"TEST_BACKEND": "claimable", "TEST_CLAIM": how}})
}

// put has the workers say that there are these templates.
func (h *hub) put(templates ...messages.Template) {
	h.set(func() {
		h.templates.Revision++
		h.templates.Templates = nil
		for _, t := range templates {
			t.Revision = h.templates.Revision
			if t.ClaimPath == "" {
				t.ClaimPath = "/claim"
			}
			h.templates.Templates = append(h.templates.Templates, t)
		}
	})
}

func (h *hub) templatesOf(data []byte) (any, error) {
	if _, err := messages.Decode[messages.TemplatesRequest](data); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.templates, nil
}

// of has a spawn name a template as the workers have it.
func (h *hub) of(name string) func(*messages.Spawn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.templates.Templates {
		if t.Name == name {
			return func(s *messages.Spawn) {
				s.Executable, s.Template = t.Executable, &messages.SpawnTemplate{Name: name, Revision: t.Revision, ClaimPath: t.ClaimPath}
			}
		}
	}
	h.t.Fatal("no template", name)
	return nil
}

// spares waits until the drone says of a template what is wanted.
func (h *hub) spares(name, what string, wanted func(messages.SpareState) bool) (state messages.SpareState) {
	h.t.Helper()
	testkit.Eventually(h.t, "the drone says of the template "+name+": "+what, func() bool {
		said := h.lastHeartbeat().Spares
		at := slices.IndexFunc(said, func(s messages.SpareState) bool { return s.Template == name })
		if at < 0 {
			return false
		}
		state = said[at]
		return wanted(state)
	})
	return state
}

func readySpares(n int) func(messages.SpareState) bool {
	return func(s messages.SpareState) bool { return s.Ready == n && s.Starting == 0 }
}

// at asks a backend who it is.
func at(t *testing.T, address string) http.Header {
	t.Helper()
	resp, err := http.Get("http://" + address)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.Header
}

func TestSpareIsClaimedAndReadyAtOnce(t *testing.T) {
	t.Parallel()
	h := realRig(t)
	h.put(messages.Template{Name: "room", Executable: claimable(""), Spares: 2})
	h.spares("room", "two are ready", readySpares(2))
	h.spawn("b1", nil, h.of("room"), func(s *messages.Spawn) { s.StaticToken, s.Key.Tag = "s.1", "v1" })
	states := h.await("b1", messages.Ready)
	if got, want := statusesOf(states), []messages.Status{messages.Loading, messages.Ready}; !slices.Equal(got, want) {
		t.Errorf("its states are %v, not %v: it was started", got, want)
	}
	told := at(t, address(states))
	want := fmt.Sprintf(`{"backend_id":"b1","key":"doc-b1","namespace":"ns","tag":"v1","fencing_token":7,"static_token":"s.1","drone":%q}`, h.drone)
	if got := told.Get("X-Claim"); got != want {
		t.Errorf("it was told %s, not %s", got, want)
	}
	if told.Get("X-Spare") != "1" || told.Get("X-Key") != "" {
		t.Errorf("a spare's environment says SESSION_BACKEND_SPARE=%q, SESSION_BACKEND_KEY=%q", told.Get("X-Spare"), told.Get("X-Key"))
	}
	h.spares("room", "another one is there in its place", func(s messages.SpareState) bool { return s.Ready == 2 && s.Claims == 1 && s.Misses == 0 })
	h.terminate("b1", false)
	if end := h.end("b1"); end.Kind != messages.Soft {
		t.Errorf("it ended as %+v", end)
	}
	// Deleted while one is a backend: that stays.
	h.spawn("b2", nil, h.of("room"))
	states = h.await("b2", messages.Ready)
	h.put()
	testkit.Eventually(t, "no spares are kept any more", func() bool { return len(h.lastHeartbeat().Spares) == 0 })
	at(t, address(states))
}

// Whatever a program does with its claim, the backend is there, and no other process that may believe to be it.
func TestI1SpareThatDoesNotTakeItsClaimIsReplacedByAColdStart(t *testing.T) {
	t.Parallel()
	shown := prometheus.NewRegistry()
	h := realRig(t, func(c *drone.Config) { c.Metrics = metrics.NewDrone(shown) })
	ways := []string{"refuses", "silent", "redirects", "exits"}
	var templates []messages.Template
	for _, how := range ways {
		templates = append(templates, messages.Template{Name: how, Executable: claimable(how), Spares: 1})
	}
	h.put(templates...)
	for _, how := range ways {
		h.spares(how, "one is ready", readySpares(1))
	}
	for _, how := range ways {
		h.spawn("b-"+how, nil, h.of(how))
	}
	for _, how := range ways {
		states := h.await("b-"+how, messages.Ready)
		if !slices.Contains(statusesOf(states), messages.Starting) {
			t.Errorf("%s: its states are %v: it was not started", how, statusesOf(states))
		}
		if told := at(t, address(states)); told.Get("X-Spare") != "" || told.Get("X-Key") != "doc-b-"+how {
			t.Errorf("%s: it is a spare: %v", how, told)
		}
		state := h.spares(how, "that a claim failed", func(s messages.SpareState) bool { return s.Misses == 1 && s.Error != "" })
		if !strings.Contains(state.Error, "POST /claim") {
			t.Errorf("%s: the error says %q", how, state.Error)
		}
	}
	h.put(messages.Template{Name: "room", Executable: claimable(""), Spares: 1})
	h.spares("room", "one is ready", readySpares(1))
	h.spawn("b-room", nil, h.of("room"))
	h.await("b-room", messages.Ready)
	counted := map[string]uint64{}
	families, err := shown.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "jetway_drone_claim_duration_seconds" {
			for _, m := range f.GetMetric() {
				counted[m.GetLabel()[0].GetValue()] = m.GetHistogram().GetSampleCount()
			}
		}
	}
	if want := map[string]uint64{"ok": 1, "failed": uint64(len(ways))}; !maps.Equal(counted, want) {
		t.Errorf("the metrics count the claims %v, not %v", counted, want)
	}
}

func TestTemplateWhoseProgramDiesSaysWhy(t *testing.T) {
	t.Parallel()
	h := realRig(t)
	h.put(
		messages.Template{Name: "dies", Executable: claimable("dies"), Spares: 1},
		messages.Template{Name: "missing", Executable: json.RawMessage(`{"command":["nowhere"]}`), Spares: 1},
	)
	h.spares("dies", "its exit code and last words", func(s messages.SpareState) bool {
		return s.Ready == 0 && strings.Contains(s.Error, "exit code 3") && strings.Contains(s.Error, "no database")
	})
	h.spares("missing", "what is wrong with the executable", func(s messages.SpareState) bool { return strings.Contains(s.Error, `"nowhere"`) })
	h.spawn("b1", nil, h.of("missing"))
	if end := h.end("b1"); end.Reason != messages.ReasonStartFailed {
		t.Errorf("it ended as %+v", end)
	}
}

func TestI8SparesGiveWayToBackends(t *testing.T) {
	t.Parallel()
	h := realRig(t, func(c *drone.Config) { c.Capacity.MaxBackends = 3 })
	h.put(messages.Template{Name: "room", Executable: claimable(""), Spares: 10})
	state := h.spares("room", "as many as there is room for", func(s messages.SpareState) bool { return s.Ready == 3 && s.Error != "" })
	if !strings.Contains(state.Error, "no room") {
		t.Errorf("the error says %q", state.Error)
	}
	for _, id := range []string{"b1", "b2", "b3"} {
		h.spawn(id, plays("plain"))
		h.await(id, messages.Ready)
	}
	h.spares("room", "none is left", readySpares(0))
	h.spawn("b4", plays("plain"))
	if end := h.end("b4"); !strings.Contains(end.Message, "full") {
		t.Errorf("it ended as %+v", end)
	}
	h.terminate("b1", true)
	h.end("b1")
	h.spares("room", "one again", readySpares(1))
	h.set(func() { h.draining = true })
	h.spares("room", "none, as the drone drains", readySpares(0))
	h.set(func() { h.draining = false })
	h.spares("room", "one again, as it drains no more", readySpares(1))
}

func address(states []messages.State) string { return states[len(states)-1].Address }
