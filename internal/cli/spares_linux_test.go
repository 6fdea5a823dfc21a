package cli

import (
	"net/http"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/dockertest"
	"github.com/jetway-project/jetway/messages"
)

// spared puts a template of the site with one spare, and waits until that is ready.
func (s *site) spared(name string, executable any) messages.TemplateInfo {
	s.t.Helper()
	_, err := insist[messages.PutTemplateResponse](s.t, s.nc, messages.SubjectTemplatePut, messages.Template{
		Name: name, Cluster: s.stack.Cluster, Pool: s.pool, Executable: messages.Encode(executable), Spares: 1, ClaimPath: "/claim",
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { s.unspare(name) })
	return s.awaitSpare(name, func(info messages.TemplateInfo) bool { return info.SparesReady == 1 })
}

func (s *site) awaitSpare(name string, wanted func(messages.TemplateInfo) bool) (info messages.TemplateInfo) {
	s.t.Helper()
	testkit.Eventually(s.t, "the spares of "+name+" are as wanted", func() (ok bool) {
		var err error
		if info, err = insist[messages.TemplateInfo](s.t, s.nc, messages.SubjectTemplateGet, messages.TemplateRequest{Name: name}); err != nil {
			s.t.Fatal(err)
		}
		return wanted(info)
	})
	return info
}

func (s *site) unspare(name string) {
	s.t.Helper()
	_, err := insist[messages.Empty](s.t, s.nc, messages.SubjectTemplateDelete, messages.TemplateRequest{Name: name})
	if err != nil && messages.KindOf(err) != messages.NotFound {
		s.t.Error(err)
	}
}

// claim asks for a backend of a template.
func (s *site) claim(key, template string) *messages.ConnectResponse {
	s.t.Helper()
	resp, err := insist[messages.ConnectResponse](s.t, s.nc, messages.SubjectConnect, messages.ConnectRequest{
		Key: s.key(key), SpawnConfig: &messages.SpawnConfig{Template: template},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.awaitStatus(resp.BackendID, messages.Ready)
	return &resp
}

// The demand: the examples that can be started ahead are, are told whose they are, and believe no visitor who says so again.
func TestExamplesThatCanBeStartedAhead(t *testing.T) {
	t.Parallel()
	needs(t, "python3", "install python3")
	needs(t, "node", "install nodejs")
	s := newSite(t, "process")
	s.agent(t.TempDir(), "", "--process-root", examples(t))
	for name, program := range map[string]string{"python": "python/spare.py", "node": "node/spare.mjs", "go": "go/spare/spare"} {
		template := name + "-" + s.drone
		s.spared(template, map[string]any{"command": []string{program}})
		claimed, cold := s.claim("claimed-"+name, template), s.connect("cold-"+name, map[string]any{"command": []string{program}})
		s.awaitStatus(cold.BackendID, messages.Ready)
		for key, held := range map[string]*messages.ConnectResponse{"claimed-" + name: claimed, "cold-" + name: cold} {
			if code, page := get(t, held.URL); code != http.StatusOK || page != "hello, this is "+key+"\n" {
				t.Errorf("%s: %d %s", program, code, page)
			}
			again, err := http.Post(held.URL+"claim", "application/json", strings.NewReader(`{"key":"mine"}`))
			if err != nil {
				t.Fatal(err)
			}
			again.Body.Close()
			if again.StatusCode != http.StatusConflict {
				t.Errorf("%s: a visitor's claim gets %s", program, again.Status)
			}
		}
		s.awaitSpare(template, func(info messages.TemplateInfo) bool { return info.Claims == 1 && info.Misses == 0 })
	}
}

// I1: a container that was a spare is a backend that outlives the agent and that the next one adopts; one that nobody has claimed is ended.
func TestI1ContainerThatWasASpareIsAdopted(t *testing.T) {
	t.Parallel()
	dockertest.Needs(t)
	s := newSite(t, "docker")
	data := t.TempDir()
	agent, session := s.agent(data, "")
	template := "room-" + s.drone
	s.spared(template, map[string]any{"image": s.image("/room"), "pull_policy": "Never"})
	resp := s.claim("doc", template)
	_, before := get(t, resp.URL+"info")
	if !strings.Contains(before, `"backend_id":"`+resp.BackendID+`","key":"doc"`) {
		t.Errorf("it says %s", before)
	}
	s.awaitSpare(template, func(info messages.TemplateInfo) bool {
		return info.SparesReady == 1 && info.Claims == 1 && info.Misses == 0
	})
	_ = agent.Process.Kill()
	_ = agent.Wait()
	s.unspare(template)
	s.agent(data, session)
	testkit.Eventually(t, "the spare is ended", func() bool { return len(s.containers()) == 1 })
	if _, now := get(t, resp.URL+"info"); now != before {
		t.Errorf("it says %s, and said %s", now, before)
	}
	if _, err := insist[messages.Empty](t, s.nc, messages.SubjectTerminate, messages.TerminateRequest{BackendID: resp.BackendID, Hard: true}); err != nil {
		t.Fatal(err)
	}
	s.awaitStatus(resp.BackendID, messages.Terminated)
	s.awaitNoContainers()
}
