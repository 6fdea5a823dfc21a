package cli

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
	"github.com/jetway-project/jetway/messages"
)

// The configuration in deploy/nats lets every role do its work, from the start of
// a worker on an empty server to the end of a backend.
func TestPermissionsSufficeForTheWholeLifeOfABackend(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	worker := g.role("worker", "worker", "--name", "wo-1", "--postgres", pgtest.Database(t), "--default-cluster", "jetway.test:80")
	worker.await(t, "answering requests")
	for _, name := range []string{"dr-a", "dr-b"} {
		g.role(name, "drone", "--name", name, "--cluster", "jetway.test:80", "--pool", name, "--runtime", "fake", "--grace", "1s")
	}
	proxy := g.role("proxy", "proxy", "--name", "px-1", "--listen", "127.0.0.1:0", "--drain-delay", "0s")
	address := proxy.await(t, `"msg":"serving".*"address":"([^"]+)"`)[1]
	testkit.Eventually(t, "both drones take spawns", func() bool {
		return len(regexp.MustCompile(`(?m)^dr-[ab] +ready`).FindAllString(g.run("operator", "drones"), -1)) == 2
	})

	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("room")) }))
	defer backend.Close()
	said, _ := g.conn("operator")
	lines, err := said.SubscribeSync(messages.SubjectAllLogs)
	if err != nil {
		t.Fatal(err)
	}
	if err := said.Flush(); err != nil {
		t.Fatal(err)
	}
	executable := `{"fake":{"address":"` + strings.TrimPrefix(backend.URL, "http://") + `","print":["hello"]}}`
	out := g.run("web", "connect", "--id", "b1", "--key", "doc", "--pool", "dr-a", "--executable", executable)
	url := regexp.MustCompile(`http://jetway\.test:80(/\S+)`).FindStringSubmatch(out)
	if url == nil || !strings.Contains(out, "ready") {
		t.Fatalf("connect printed %q", out)
	}
	if _, err := lines.NextMsgWithContext(testkit.Context(t)); err != nil {
		t.Error("no line of the backend's output: ", err)
	}
	request, err := http.NewRequestWithContext(testkit.Context(t), http.MethodGet, "http://"+address+url[1], nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "jetway.test:80"
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = reply.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if reply.StatusCode != http.StatusOK {
		t.Errorf("the proxy answers %s", reply.Status)
	}

	if out := g.run("operator", "backends"); !strings.Contains(out, "b1") {
		t.Errorf("backends printed %q", out)
	}
	g.run("operator", "status", "b1")
	for _, user := range []string{"web", "operator"} {
		if out := g.run(user, "logs", "b1"); out != "hello\n" {
			t.Errorf("logs by %s printed %q", user, out)
		}
	}
	g.run("operator", "drain", "dr-b")
	g.run("operator", "undrain", "dr-b")
	g.run("web", "revoke", "b1", "--user", "ann")
	g.run("web", "connect", "--id", "b2", "--pool", "dr-b", "--executable", `{}`)
	for _, user := range []string{"web", "operator"} {
		id := map[string]string{"web": "b1", "operator": "b2"}[user]
		if out := g.run(user, "terminate", id); !strings.Contains(out, "terminated") {
			t.Errorf("terminate by %s printed %q", user, out)
		}
		if out := g.run(user, "watch", id); !strings.Contains(out, "scheduled") || !strings.Contains(out, "terminated") {
			t.Errorf("watch by %s printed %q", user, out)
		}
	}
	g.nats(said)
}

// nats asks what the commands nats micro and nats stream ask.
func (g *guarded) nats(nc *nats.Conn) {
	g.t.Helper()
	for subject, answer := range map[string]string{
		"$SRV.PING": `"jetway`, "$SRV.STATS.jetway-proxy": "px-1", "$SRV.PING.jetway": `"jetway"`, "$SRV.INFO.jetway": "jetway.ctl.connect", "$SRV.STATS.jetway": "num_requests",
		"$JS.API.INFO": `"streams":4`, "$JS.API.STREAM.NAMES": messages.StreamEvents, "$JS.API.STREAM.LIST": messages.StreamActions,
		"$JS.API.STREAM.INFO." + messages.StreamLogs: `"state"`, "$JS.API.CONSUMER.NAMES." + messages.StreamActions: "dr-b",
		"$JS.API.CONSUMER.LIST." + messages.StreamActions: "dr-a", "$JS.API.CONSUMER.INFO." + messages.StreamActions + ".dr-a": "num_pending",
	} {
		msg, err := nc.RequestWithContext(testkit.Context(g.t), subject, nil)
		if err != nil || !strings.Contains(string(msg.Data), answer) {
			g.t.Errorf("%s is answered with %v %+v", subject, err, msg)
		}
	}
}

// One drone cannot take, see or settle another's actions, nor speak for it.
func TestPermissionsKeepDronesApart(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	for me, other := range map[string]string{"dr-a": "dr-b", "dr-b": "dr-a"} {
		g.forbidsPublish(me,
			messages.RegisterSubject(other), messages.HeartbeatSubject(other), messages.ReportSubject(other), messages.SubjectDroneTemplates(other),
			"$JS.API.CONSUMER.MSG.NEXT.JETWAY_ACTIONS."+other, "$JS.API.CONSUMER.INFO.JETWAY_ACTIONS."+other,
			"$JS.ACK.JETWAY_ACTIONS."+other+".1.1.1.1.0",
			"$JS.API.CONSUMER.DELETE.JETWAY_ACTIONS."+other, "$JS.API.CONSUMER.PAUSE.JETWAY_ACTIONS."+other,
			"$JS.API.CONSUMER.RESET.JETWAY_ACTIONS."+other, "$JS.API.CONSUMER.UNPIN.JETWAY_ACTIONS."+other,
			// Its own consumer neither: see the configuration.
			"$JS.API.CONSUMER.MSG.NEXT.JETWAY_ACTIONS."+me, "$JS.API.CONSUMER.INFO.JETWAY_ACTIONS."+me,
			"$JS.API.CONSUMER.CREATE.JETWAY_ACTIONS."+me, "$JS.API.CONSUMER.CREATE.JETWAY_ACTIONS",
			"$JS.API.CONSUMER.CREATE.JETWAY_ACTIONS."+me+".jetway.action."+other,
			"$JS.API.CONSUMER.DURABLE.CREATE.JETWAY_ACTIONS."+me, "$JS.API.CONSUMER.DELETE.JETWAY_ACTIONS."+me,
			"$JS.API.STREAM.MSG.GET.JETWAY_ACTIONS", "$JS.API.DIRECT.GET.JETWAY_ACTIONS",
		)
		g.forbidsListen(me, messages.ActionSubject(other), messages.ActionSubject(me), messages.SubjectAllActions,
			"jetway.drone.*.report", "jetway.>", ">", messages.InboxPrefix(other)+".>", messages.DeliverSubject(other), "_INBOX.>", "_INBOX.worker.*")
	}
}

// Nobody but workers publishes actions and events, answers requests or manages
// streams, and nobody hears another's replies.
func TestPermissionsRefuseWhatIsAnothersWork(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	users := []string{"proxy", "dns", "web", "gateway", "operator", "dr-a"}
	var manage []string
	for _, stream := range []string{messages.StreamActions, messages.StreamEvents, messages.StreamLogs, messages.StreamCerts, "OTHER"} {
		for _, verb := range []string{"CREATE", "UPDATE", "DELETE", "PURGE", "MSG.DELETE", "RESTORE", "SNAPSHOT"} {
			manage = append(manage, "$JS.API.STREAM."+verb+"."+stream)
		}
		manage = append(manage, "$JS.API.CONSUMER.CREATE."+stream, "$JS.API.CONSUMER.DELETE."+stream+".dr-b")
	}
	for _, user := range users {
		g.forbidsPublish(user, messages.ActionSubject("dr-a"), messages.BackendEventSubject("b"), messages.DroneEventSubject("dr-a"),
			"jetway.event.token.b", messages.SleepEventSubject("b"), "_INBOX.worker.x", "_INBOX.dr-b.x")
		g.forbidsPublish(user, manage...)
		for _, other := range append(users, "worker", "dr-b") {
			if other != user {
				g.forbidsListen(user, messages.InboxPrefix(other)+".>")
			}
		}
		g.forbidsListen(user, "_INBOX.>", "_INBOX.*.*", ">", "$SRV.>")
	}
	control := []string{messages.SubjectConnect, messages.SubjectTerminate, messages.SubjectStatus, messages.SubjectBackends, messages.SubjectDrones, "$SRV.PING"}
	templates := []string{messages.SubjectTemplatePut, messages.SubjectTemplateGet, messages.SubjectTemplateList, messages.SubjectTemplateDelete}
	asDrone := []string{messages.SubjectDroneTemplates("dr-a"), messages.RegisterSubject("dr-a"), messages.HeartbeatSubject("dr-a"), messages.ReportSubject("dr-a"), messages.LogSubject("b")}
	take := []string{"$JS.API.CONSUMER.MSG.NEXT.JETWAY_ACTIONS.dr-a", "$JS.ACK.JETWAY_ACTIONS.dr-a.1.1.1.1.0"}
	asProxy := []string{messages.RouteSubject("px-1"), messages.KeepaliveSubject("px-1")}
	// Private keys of certificates are for proxies only, and so is what wildcard certificates are given for.
	certs := []string{messages.CertsSubject("x"), "$JS.API.STREAM.MSG.GET.KV_JETWAY_CERTS", "$JS.API.DIRECT.GET.KV_JETWAY_CERTS", "$JS.API.CONSUMER.CREATE.KV_JETWAY_CERTS"}
	forDNS := []string{messages.SubjectDNSPresent, messages.SubjectDNSRemove}
	for user, subjects := range map[string][][]string{
		"dr-a":     {control, templates, asProxy, certs, forDNS},
		"proxy":    {control, templates, asDrone, take, {messages.SubjectDNSStarted, "$JS.API.DIRECT.GET.KV_JETWAY_CERTS", "$JS.API.STREAM.MSG.GET.JETWAY_ACTIONS"}},
		"dns":      {control, templates, asDrone, take, asProxy, certs, forDNS, {"$JS.API.INFO", "$SRV.PING"}},
		"web":      {{messages.SubjectForget, messages.SubjectRetry, messages.SubjectSleep, messages.SubjectWake}, asDrone, take, asProxy, certs, forDNS, {"$SRV.PING", "$JS.API.STREAM.INFO.JETWAY_ACTIONS", "$JS.API.STREAM.INFO.KV_JETWAY_CERTS", "$JS.API.STREAM.LIST", "$JS.API.STREAM.MSG.GET.JETWAY_EVENTS", "$JS.API.STREAM.MSG.GET.JETWAY_ACTIONS", messages.SubjectDrain, messages.SubjectUndrain}, templates},
		"gateway":  {asDrone, take, asProxy, certs, forDNS, {"$SRV.PING", "$JS.API.STREAM.INFO.JETWAY_ACTIONS", "$JS.API.STREAM.NAMES"}},
		"operator": {asDrone, take, asProxy, certs, forDNS},
		"worker":   {certs, forDNS},
	} {
		for _, list := range subjects {
			g.forbidsPublish(user, list...)
		}
	}
	g.forbidsListen("web", "jetway.ctl.*", messages.SubjectAllActions, "jetway.drone.*.*", "jetway.proxy.*.*")
	g.forbidsListen("proxy", "jetway.ctl.*", messages.SubjectAllActions, messages.SubjectAllLogs, messages.SubjectAllStats, "jetway.proxy.*.*")
	for _, user := range []string{"worker", "dns", "web", "operator", "dr-a"} {
		g.forbidsListen(user, messages.SubjectAllCerts, messages.CertsSubject("locks/x"))
	}
	g.forbidsListen("dns", "jetway.>", "jetway.dns.>", "jetway.ctl.*", messages.SubjectAllEvents, "jetway.proxy.*.*")
	g.forbidsListen("dr-a", "jetway.ctl.*", messages.SubjectAllEvents, messages.SubjectAllLogs, messages.SubjectAllStats)
	for _, user := range []string{"proxy", "dr-a"} {
		g.forbidsPublish(user, "$JS.API.DIRECT.GET.JETWAY_LOGS", "$JS.API.DIRECT.GET.JETWAY_LOGS.jetway.log.b")
	}
	g.forbidsPublish("web", messages.StatsSubject("b"), messages.LogSubject("b"))
	g.forbidsPublish("operator", messages.StatsSubject("b"), messages.LogSubject("b"))
	g.forbidsPublish("worker", "$JS.API.STREAM.DELETE.JETWAY_EVENTS", "$JS.API.STREAM.CREATE.OTHER", "$JS.API.STREAM.PURGE.JETWAY_EVENTS",
		"$JS.API.CONSUMER.MSG.NEXT.JETWAY_ACTIONS.dr-a", "$JS.API.STREAM.DELETE.JETWAY_LOGS")
	g.forbidsListen("worker", "jetway.>", "_INBOX.>", messages.SubjectAllActions, messages.SubjectAllLogs)
}

// What no backend's ordinary life needs, but the roles do now and then.
func TestPermissionsAllowWhatIsRare(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	for user, subjects := range map[string][]string{
		"worker": {
			"$JS.API.STREAM.INFO.JETWAY_ACTIONS", "$JS.API.STREAM.PURGE.JETWAY_ACTIONS", "$JS.API.CONSUMER.DELETE.JETWAY_ACTIONS.dr-a",
			messages.DroneEventSubject("dr-a"), "jetway.event.token.b", messages.SleepEventSubject("b"), "$JS.API.STREAM.DELETE.JETWAY_ACTIONS",
			// What a worker that stops hands to another one.
			"$SRV.PING.jetway", messages.SubjectConnect, messages.SubjectTemplateGet, messages.ReportSubject("dr-b"), messages.RouteSubject("px-b"),
		},
		"dr-a": {"jetway.stats.b", messages.SubjectDroneTemplates("dr-a")},
		"web": {
			"$JS.API.DIRECT.GET.JETWAY_EVENTS.jetway.event.backend.b", "$JS.API.DIRECT.GET.JETWAY_LOGS.jetway.log.b", "jetway.ctl.revoke",
			"$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.INFO.JETWAY_EVENTS", "$JS.API.STREAM.INFO.JETWAY_LOGS",
		},
		"gateway":  {messages.SubjectTemplatePut, messages.SubjectTemplateDelete, messages.SubjectSleep, messages.SubjectWake, "$JS.API.DIRECT.GET.JETWAY_EVENTS"},
		"operator": {messages.SubjectForget, messages.SubjectRetry, messages.SubjectSleep, messages.SubjectWake, messages.SubjectTemplatePut, messages.SubjectTemplateDelete, "jetway.ctl.drain", "jetway.ctl.undrain", "$JS.API.STREAM.MSG.GET.JETWAY_EVENTS", "$JS.API.STREAM.MSG.GET.JETWAY_LOGS", "$JS.API.STREAM.MSG.GET.JETWAY_ACTIONS"},
	} {
		for _, subject := range subjects {
			nc, forbidden := g.conn(user)
			if !verdict(t, nc, forbidden, func() error { return nc.PublishRequest(subject, messages.InboxPrefix(user)+".x", nil) }) {
				t.Errorf("%s may not publish on %s", user, subject)
			}
		}
	}
	for _, c := range [][2]string{
		{"proxy", "jetway.event.token.*"},
		{"proxy", "jetway.event.sleep.*"},
		{"web", messages.SubjectAllEvents},
		{"gateway", messages.SubjectAnyBackendEvent},
		{"gateway", messages.SubjectAnySleepEvent},
		{"web", messages.SubjectAllLogs},
		{"web", messages.SubjectAllStats},
		{"operator", "jetway.>"},
		{"worker", "$SRV.>"},
	} {
		nc, forbidden := g.conn(c[0])
		if !verdict(t, nc, forbidden, func() error { _, err := nc.SubscribeSync(c[1]); return err }) {
			t.Errorf("%s may not listen on %s", c[0], c[1])
		}
	}
}

// Nobody makes a worker do in its name what he may not do himself, by naming another
// request as the place of the reply.
func TestPermissionsAreNotWidenedByReplySubjects(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	g.role("worker", "worker", "--name", "wo-1", "--postgres", pgtest.Database(t)).await(t, "answering requests")
	operator, _ := g.conn("operator")
	heard := make(chan *nats.Msg, 64)
	for _, subject := range []string{messages.SubjectAllActions, messages.SubjectAllEvents} {
		if _, err := operator.ChanSubscribe(subject, heard); err != nil {
			t.Fatal(err)
		}
	}
	if err := operator.Flush(); err != nil {
		t.Fatal(err)
	}
	for user, request := range map[string]string{"dr-a": messages.HeartbeatSubject("dr-a"), "proxy": messages.RouteSubject("px-1"), "web": messages.SubjectDrones} {
		nc, _ := g.conn(user)
		for _, reply := range []string{
			"$JS.API.STREAM.PURGE.JETWAY_ACTIONS", "$JS.API.CONSUMER.DELETE.JETWAY_ACTIONS.dr-b", "$SRV.PING",
			messages.ActionSubject("dr-b"), messages.BackendEventSubject("b"), messages.ReportSubject("dr-b"), messages.SubjectConnect,
		} {
			if err := nc.PublishRequest(request, reply, []byte(`{"session":"s"}`)); err != nil {
				t.Fatal(err)
			}
		}
		// Answered after those, if those were answered.
		if _, err := nc.RequestWithContext(testkit.Context(t), request, []byte(`{"session":"s"}`)); err != nil {
			t.Fatal(user, err)
		}
	}
	if err := operator.Flush(); err != nil {
		t.Fatal(err)
	}
	if len(heard) > 0 {
		msg := <-heard
		t.Errorf("the worker was made to publish on %s: %s", msg.Subject, msg.Data)
	}
}

// Whoever is nobody, or has no certificate's authority, does not get in.
func TestPermissionsLetNobodyElseIn(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	stranger, _ := newNkey(t)
	for want, args := range map[string][]string{
		"does not let us in":  {"--nkey", stranger, "--tls-ca", g.ca},
		"Authorization Viola": {"--tls-ca", g.ca},
		"is not to be trust":  {"--nkey", g.seeds["operator"]},
	} {
		for _, command := range [][]string{
			{"drones"},
			{"drone", "--name", "dr-a", "--cluster", "a", "--runtime", "fake"},
		} {
			_, stderr, code := jetway(t, append(append(command, "--nats", g.url), args...)...)
			if !strings.Contains(strings.ToLower(stderr), strings.ToLower(want)) || code != ExitFailed || strings.Count(stderr, "\n") != 1 {
				t.Errorf("jetway %s: exit code %d, %q", fmt.Sprint(command, args), code, stderr)
			}
		}
	}
}
