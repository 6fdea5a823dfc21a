package docker_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/docker"
	"github.com/jetway-project/jetway/internal/testkit"
)

func TestPullPolicies(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	d := newDepot(s)
	ref := d.put(2)
	prepare := func(policy string) error {
		return s.Prepare(t.Context(), s.spec("", "image", ref, "pull_policy", policy))
	}
	if err := prepare("Never"); err == nil || !strings.Contains(err.Error(), "Never") {
		t.Fatalf("Never: %v", err)
	}
	if d.blobs.Load() != 0 {
		t.Fatal("Never pulled")
	}
	if err := prepare("IfNotPresent"); err != nil {
		t.Fatal(err)
	}
	s.line("pulling " + ref)
	s.line("pulled " + ref)
	if !d.has(ref) {
		t.Fatal("it was not pulled")
	}
	pulled := d.blobs.Load()
	for _, policy := range []string{"IfNotPresent", "Never"} {
		if err := prepare(policy); err != nil {
			t.Fatal(err)
		}
	}
	if lines := s.rest(); len(lines) > 0 {
		t.Fatalf("pulled what was there: %v", lines)
	}
	if err := prepare("Always"); err != nil {
		t.Fatal(err)
	}
	s.line("pulled " + ref)
	if d.blobs.Load() != pulled {
		t.Error("pulled layers that were there")
	}
}

func TestPullOfNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	d := newDepot(s)
	absent := "not found"
	if s.isPodman() {
		absent = "name unknown"
	}
	for ref, want := range map[string]string{
		d.host + "/nobody/has-this:1":     absent,
		"127.0.0.1:1/nobody/listens:1":    "connection refused",
		"jetway.invalid/nobody/listens:1": "jetway.invalid",
	} {
		said := s.refused(s.spec("", "image", ref))
		if !strings.Contains(said, ref) || !strings.Contains(said, want) || !strings.Contains(said, "check the name") {
			t.Errorf("%s: %s", ref, said)
		}
	}
}

// Credentials open the registry, wrong ones do not, and no one ever sees them.
func TestCredentials(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	d := newDepot(s)
	d.user, d.password = "reader", "correct-horse-"+newID()
	ref := d.put(1)
	for _, credentials := range []any{nil, map[string]string{"username": "reader", "password": "battery-staple"}} {
		spec := s.spec("", "image", ref, "credentials", credentials)
		said := s.refused(spec)
		if !strings.Contains(said, ref) || !strings.Contains(said, "credentials") || strings.Contains(said, "battery-staple") {
			t.Errorf("%v: %s", credentials, said)
		}
	}
	spec := s.spec("", "image", ref, "credentials", map[string]string{"username": "reader", "password": d.password})
	if err := s.Prepare(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	for _, line := range s.rest() {
		if strings.Contains(line.Text, d.password) {
			t.Errorf("line %q", line.Text)
		}
	}
	kept, had := s.WithoutSecrets(spec.Executable)
	if !had || strings.Contains(string(kept), "reader") || strings.Contains(string(kept), d.password) || !strings.Contains(string(kept), ref) {
		t.Errorf("kept %s", kept)
	}
}

func TestWithoutSecrets(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	for raw, want := range map[string]string{
		`{"image": "a", "credentials": {"username": "u", "password": "secret"}, "mount": "ab"}`:                                                       `{"image":"a","mount":"ab"}`,
		`{"image": "a", "mount": true, "env": {"A": "b"}, "resource_limits": {"cpu_period_percent": 5}, "pull_policy": "Never", "network_name": "n"}`: `{"image":"a","pull_policy":"Never","env":{"A":"b"},"resource_limits":{"cpu_period_percent":5},"mount":true,"network_name":"n"}`,
		`{"image": "a", "credentials": "secret"}`: `{}`,
		// What is no executable has nothing that is kept.
		`{"image": "a", "Credentials": {"username": "u", "pass": "secret"}}`:                                                `{}`,
		`{"image": "a", "credentials": {"username": "u", "pass": "x"}, "credentials": {"username": "u", "pass": "secret"}}`: `{}`,
		`secret`: `{}`,
	} {
		got, had := s.WithoutSecrets(json.RawMessage(raw))
		if string(got) != want || had != strings.Contains(raw, `"password"`) {
			t.Errorf("%s: got %s, %v, want %s", raw, got, had, want)
		}
	}
	demands := s.Demands(json.RawMessage(`{"image": "a", "resource_limits": {"cpu_period_percent": 150, "memory_limit_bytes": 10000000}}`))
	if demands != (runtime.Demands{MemoryBytes: 10_000_000, CPUMillis: 1500}) {
		t.Errorf("demands %+v", demands)
	}
	if demands := s.Demands(json.RawMessage(`{}`)); demands != (runtime.Demands{}) {
		t.Errorf("demands %+v", demands)
	}
}

// Pulls of one image are one, with progress for all who wait; who has other
// credentials pulls for himself.
func TestPullsAreFolded(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	d := newDepot(s)
	ref := d.put(1)
	d.gate = make(chan struct{})
	prepared := make(chan error, 10)
	for range cap(prepared) {
		spec := s.spec("", "image", ref)
		go func() { prepared <- s.Prepare(t.Context(), spec) }()
	}
	testkit.Receive(t, d.asked, "a layer was asked for")
	// Each says that it pulls, and then, of the megabyte, how much is there.
	for seen := 0; seen < cap(prepared); {
		if strings.Contains(testkit.Receive(t, s.words, "it goes on"), " of 1.0") {
			seen++
		}
	}
	select {
	case err := <-prepared:
		t.Fatalf("pulled at a closed gate: %v", err)
	default:
	}
	close(d.gate)
	for range cap(prepared) {
		if err := testkit.Receive(t, prepared, "it was prepared"); err != nil {
			t.Error(err)
		}
	}
	// One layer and one config.
	if blobs := d.blobs.Load(); blobs > 2 {
		t.Errorf("%d blobs were asked for", blobs)
	}
	for _, line := range s.rest() {
		if line.Stream != runtime.Notice {
			t.Errorf("line %+v", line)
		}
	}
}

// A pull that nobody waits for any more ends; one that somebody waits for does not.
func TestPullEndsWithTheLastWhoWaits(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	d := newDepot(s)
	ref := d.put(1)
	d.gate = make(chan struct{})
	begin := func() (context.CancelCauseFunc, chan error) {
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		spec := s.spec("", "image", ref)
		go func() { done <- s.Prepare(ctx, spec) }()
		return cancel, done
	}
	cancelOne, one := begin()
	testkit.Receive(t, d.asked, "a layer was asked for")
	cancelTwo, two := begin()
	s.line("pulling")
	s.line("pulling")
	why := errors.New("asked to end")
	cancelOne(why)
	if err := testkit.Receive(t, one, "the first ended"); !errors.Is(err, why) {
		t.Fatalf("the first: %v", err)
	}
	select {
	case <-d.gone:
		t.Fatal("the pull ended although one waited for it")
	default:
	}
	cancelTwo(why)
	if err := testkit.Receive(t, two, "the second ended"); !errors.Is(err, why) {
		t.Fatalf("the second: %v", err)
	}
	testkit.Receive(t, d.gone, "the pull ends: Docker hangs up")
	if d.has(ref) {
		t.Fatal("it was pulled")
	}
	close(d.gate)
	if err := s.Prepare(t.Context(), s.spec("", "image", ref)); err != nil {
		t.Fatalf("pull again: %v", err)
	}
}

func TestCloseEndsPulls(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	d := newDepot(s)
	d.gate = make(chan struct{})
	defer close(d.gate)
	spec := s.spec("", "image", d.put(1))
	prepared := make(chan error, 1)
	go func() { prepared <- s.Prepare(t.Context(), spec) }()
	testkit.Receive(t, d.asked, "a layer was asked for")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := testkit.Receive(t, prepared, "it was prepared"); err == nil {
		t.Fatal("it was pulled")
	}
}

// Start pulls what Prepare did not, or what was removed since.
func TestStartPulls(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	d := newDepot(s)
	ref := d.put(1)
	_, err := s.Start(t.Context(), s.spec("", "image", ref))
	if err == nil || !strings.Contains(err.Error(), "/nothing") { // which is what it cannot run
		t.Fatalf("got %v", err)
	}
	if !d.has(ref) {
		t.Fatal("it was not pulled")
	}
}

// Images that this drone pulled are removed once they are not used, also by its next
// agent; those that were there before stay.
func TestUnusedImagesArePruned(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(c *docker.Config) { c.StateDir = t.TempDir() })
	d := newDepot(s)
	pulled, before := d.put(1), d.put(1)
	answer, err := s.engine.ImagePull(t.Context(), before, client.ImagePullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := answer.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{pulled, before} {
		if err := s.Prepare(t.Context(), s.spec("", "image", ref, "pull_policy", "Always")); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// One container uses it, for now.
	used, err := s.engine.ContainerCreate(t.Context(), client.ContainerCreateOptions{Image: pulled})
	if err != nil {
		t.Fatal(err)
	}
	note := func() string {
		raw, err := os.ReadFile(filepath.Join(s.config.StateDir, "images.json"))
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	noted := note()
	s.config.PruneImages = 200 * time.Millisecond
	s.open()
	testkit.Eventually(t, "that Docker refuses to remove it", func() bool { return note() != noted })
	if !d.has(pulled) {
		t.Fatal("an image was removed that a container has")
	}
	if _, err := s.engine.ContainerRemove(t.Context(), used.ID, client.ContainerRemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the removal of the image", func() bool { return !d.has(pulled) })
	if !d.has(before) {
		t.Fatal("an image was removed that was there before")
	}
}
