package cli

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
	"github.com/jetway-project/jetway/messages"
)

// strange is what a program in Python does with JetStream's own client, as web.
const strange = `
import asyncio, os, ssl, nats
async def main():
    tls = ssl.create_default_context(cafile=os.environ["CA"])
    nc = await nats.connect(os.environ["NATS_URL"], nkeys_seed=os.environ["SEED"], tls=tls, inbox_prefix=b"_INBOX.web")
    js = nc.jetstream()
    print("account", (await js.account_info()).streams)
    print("named", await js.find_stream_name_by_subject("jetway.event.backend.b"))
    print("info", (await js.stream_info("JETWAY_EVENTS")).state.messages)
    print("get", (await js.get_msg("JETWAY_EVENTS", seq=1, next=True, subject="jetway.event.backend.b", direct=True)).data.decode())
    await nc.close()
asyncio.run(main())
`

// strangeJS is the same in JavaScript, with the clients of NATS for it.
const strangeJS = `
import { readFileSync } from "node:fs";
import { connect, nkeyAuthenticator } from "@nats-io/transport-node";
import { jetstreamManager } from "@nats-io/jetstream";
const nc = await connect({ servers: process.env.NATS_URL, tls: { caFile: process.env.CA }, inboxPrefix: "_INBOX.web",
  authenticator: nkeyAuthenticator(readFileSync(process.env.SEED)), timeout: 180_000 });
const jsm = await jetstreamManager(nc);
console.log("account", (await jsm.getAccountInfo()).streams);
console.log("named", await jsm.streams.find("jetway.event.backend.b"));
console.log("info", (await jsm.streams.info("JETWAY_EVENTS")).state.messages);
console.log("get", (await jsm.direct.getMessage("JETWAY_EVENTS", { seq: 1, next_by_subj: "jetway.event.backend.b" })).string());
await nc.close();
`

// The demand: the clients that people have, nats, nats-py and nats.js, read the history as web and operator with what they ask first.
func TestPermissionsSufficeForTheClientsThatPeopleHave(t *testing.T) {
	t.Parallel()
	testkit.Long(t)
	for _, name := range []string{"python3", "node", "npm"} {
		if _, err := exec.LookPath(name); err != nil {
			testkit.LeaveOut(t, name+" is not installed", "install "+name)
		}
	}
	g := newGuarded(t)
	g.role("worker", "worker", "--name", "wo-1", "--postgres", pgtest.Database(t)).await(t, "answering requests")
	worker, _ := g.conn("worker")
	event := messages.NewStateEvent("b", time.Now(), messages.State{Status: messages.Scheduled})
	if _, err := worker.RequestWithContext(testkit.Context(t), messages.BackendEventSubject("b"), messages.Encode(event)); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	run := func(env []string, name string, args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*testkit.Patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	run(nil, "python3", "-m", "venv", "venv")
	run(nil, "venv/bin/pip", "install", "-q", "--disable-pip-version-check", "nats-py==2.16.0", "nkeys==0.2.1")
	run(nil, "npm", "install", "--no-audit", "--no-fund", "--loglevel=error", "@nats-io/transport-node@3.4.0", "@nats-io/jetstream@3.4.0")
	program := filepath.Join(dir, "strange.mjs")
	if err := os.WriteFile(program, []byte(strangeJS), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"NATS_URL=" + strings.Replace(g.url, "nats://", "tls://", 1), "CA=" + g.ca, "SEED=" + g.seeds["web"]}
	for name, out := range map[string]string{
		"nats-py": run(env, filepath.Join(dir, "venv", "bin", "python"), "-c", strange), "nats.js": run(env, "node", program),
	} {
		for _, want := range []string{"account 4", "named JETWAY_EVENTS", "info 1", `"backend_id":"b"`} {
			if !strings.Contains(out, want) {
				t.Errorf("%s does not print %q: %s", name, want, out)
			}
		}
	}

	run([]string{"GOBIN=" + dir, "CGO_ENABLED=0"}, "go", "install", "github.com/nats-io/natscli/nats@v0.5.1")
	for user, commands := range map[string][][]string{
		"web":      {{"stream", "info", messages.StreamEvents}, {"account", "info"}, {"stream", "subjects", messages.StreamEvents}},
		"operator": {{"stream", "ls"}, {"stream", "info", messages.StreamEvents}, {"stream", "get", messages.StreamEvents, "1"}, {"micro", "info", "jetway"}},
	} {
		for _, args := range commands {
			out := run([]string{"HOME=" + dir}, filepath.Join(dir, "nats"), append([]string{
				"--server", g.url, "--nkey", g.seeds[user], "--tlsca", g.ca, "--inbox-prefix", messages.InboxPrefix(user),
			}, args...)...)
			if strings.Contains(strings.ToLower(out), "permissions violation") {
				t.Errorf("%s is refused %v: %s", user, args, out)
			}
		}
	}
}
