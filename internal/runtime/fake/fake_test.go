package fake_test

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/fake"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, r *fake.Runtime, script fake.Script) runtime.Instance {
	t.Helper()
	spec := runtime.Spec{BackendID: "b", Executable: script.Executable()}
	if err := r.Prepare(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	instance, err := r.Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return instance
}

func ended(i runtime.Instance) bool {
	select {
	case <-i.Done():
		return true
	default:
		return false
	}
}

func TestErrorsAreAsScripted(t *testing.T) {
	t.Parallel()
	r := fake.New()
	spec := runtime.Spec{Executable: fake.Script{PrepareError: "no such image"}.Executable()}
	if err := r.Prepare(t.Context(), spec); err == nil || err.Error() != "no such image" {
		t.Fatalf("prepare: %v", err)
	}
	spec.Executable = fake.Script{StartError: "exec format error"}.Executable()
	if _, err := r.Start(t.Context(), spec); err == nil || err.Error() != "exec format error" {
		t.Fatalf("start: %v", err)
	}
	for _, bad := range []string{`{"fake":{"run_fro":"1s"}}`, `{"fake":{"run_for":"-1s"}}`, `[]`, `{"fake":3}`} {
		spec.Executable = json.RawMessage(bad)
		if err := r.Prepare(t.Context(), spec); err == nil || !strings.HasPrefix(err.Error(), "executable: ") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestRunsUntilTerminated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := fake.New()
		soft := start(t, r, fake.Script{ExitCode: 3})
		time.Sleep(time.Hour)
		if ended(soft) || soft.Address() != "" {
			t.Fatal("should run, and have no address")
		}
		_ = soft.Terminate(t.Context(), false)
		if !ended(soft) || soft.Exit() != (runtime.Exit{Code: 3}) {
			t.Fatalf("exit %v", soft.Exit())
		}

		deaf := start(t, r, fake.Script{IgnoreTerm: true})
		_ = deaf.Terminate(t.Context(), false)
		if ended(deaf) {
			t.Fatal("ignore_term did not ignore")
		}
		_ = deaf.Terminate(t.Context(), true)
		if deaf.Exit().Signal != "SIGKILL" || deaf.Exit().Code != -1 {
			t.Fatalf("exit %v", deaf.Exit())
		}
	})
}

func TestTimers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := fake.New()
		began := time.Now()
		brief := start(t, r, fake.Script{RunFor: fake.Duration(2 * time.Second), ExitCode: 1})
		slow := start(t, r, fake.Script{TermFor: fake.Duration(5 * time.Second)})
		_ = slow.Terminate(t.Context(), false)
		_ = slow.Terminate(t.Context(), false)
		<-brief.Done()
		if since := time.Since(began); since != 2*time.Second || brief.Exit().Code != 1 {
			t.Fatalf("ended after %v with %v", since, brief.Exit())
		}
		<-slow.Done()
		if since := time.Since(began); since != 5*time.Second {
			t.Fatalf("ended after %v", since)
		}
	})
}

func TestCloseEndsAll(t *testing.T) {
	t.Parallel()
	r := fake.New()
	for range 10_000 {
		start(t, r, fake.Script{})
	}
	live := r.Live()
	if len(live) != 10_000 {
		t.Fatalf("%d run", len(live))
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for _, instance := range live {
		if !ended(instance) {
			t.Fatal("an instance outlived Close")
		}
	}
	if _, err := r.Start(t.Context(), runtime.Spec{}); err == nil {
		t.Fatal("started after Close")
	}
}

func BenchmarkSpawn(b *testing.B) {
	r := fake.New()
	spec := runtime.Spec{BackendID: "b", Executable: fake.Script{}.Executable()}
	for b.Loop() {
		instance, err := r.Start(b.Context(), spec)
		if err != nil {
			b.Fatal(err)
		}
		_ = instance.Terminate(b.Context(), true)
	}
}
