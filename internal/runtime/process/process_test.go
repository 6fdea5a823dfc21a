package process_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/process"
	"github.com/jetway-project/jetway/internal/testkit"
)

// stage is a runtime with a root, and the output of what it runs.
type stage struct {
	runtime.Runtime
	t     *testing.T
	root  string
	lines chan runtime.Line
}

func newStage(t *testing.T, change func(*process.Config)) *stage {
	t.Helper()
	config := process.Config{Root: newRoot(t), OutputGrace: testkit.Patience}
	if change != nil {
		change(&config)
	}
	r, err := process.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return &stage{Runtime: r, t: t, root: config.Root, lines: make(chan runtime.Line, 100_000)}
}

func (s *stage) spec(words ...string) runtime.Spec {
	executable, err := json.Marshal(map[string]any{
		"command": append([]string{"helper"}, words...),
		"env":     map[string]string{"GORACE": "atexit_sleep_ms=0"}, // the race detector dawdles at exit
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return runtime.Spec{BackendID: "b", Executable: executable, Log: func(line runtime.Line) { s.lines <- line }}
}

func (s *stage) start(spec runtime.Spec) *process.Instance {
	s.t.Helper()
	if err := s.Prepare(s.t.Context(), spec); err != nil {
		s.t.Fatal(err)
	}
	instance, err := s.Start(s.t.Context(), spec)
	if err != nil {
		s.t.Fatal(err)
	}
	return instance.(*process.Instance)
}

// line waits for a line that begins so, and returns the rest of it.
func (s *stage) line(prefix string) string {
	s.t.Helper()
	for {
		line := testkit.Receive(s.t, s.lines, fmt.Sprintf("the line %q comes", prefix))
		if rest, ok := strings.CutPrefix(line.Text, prefix); ok {
			return rest
		}
	}
}

// rest returns all lines that have come; it is complete after Done.
func (s *stage) rest() (lines []runtime.Line) {
	for {
		select {
		case line := <-s.lines:
			lines = append(lines, line)
		default:
			return lines
		}
	}
}

func (s *stage) exit(instance *process.Instance) runtime.Exit {
	s.t.Helper()
	testkit.Receive(s.t, instance.Done(), "the instance ends")
	return instance.Exit()
}

func TestServesUntilTerminated(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	instance := s.start(s.spec("as=serve"))
	s.line("ready")
	conn, err := net.Dial("tcp", instance.Address())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := instance.Terminate(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if exit := s.exit(instance); exit != (runtime.Exit{}) {
		t.Fatalf("ended with %v", exit)
	}
	s.line("goodbye")
	for _, hard := range []bool{false, true} {
		if err := instance.Terminate(t.Context(), hard); err != nil {
			t.Fatalf("terminate after the end: %v", err)
		}
	}
}

func TestEnvironmentIsClean(t *testing.T) {
	t.Setenv("AGENT_SECRET", "must not get out")
	dir := t.TempDir()
	s := newStage(t, func(c *process.Config) { c.Dir = dir })
	spec := s.spec()
	// What is the drone's is the drone's, as in Plane, and all else the caller's.
	spec.Executable = []byte(`{"command": ["helper", "as=show", "two words"],
		"env": {"GREETING": "hello = x", "TMPDIR": "/tmp/own", "PORT": "1", "HOST": "h", "SESSION_SECRET": "s", "LD_LIBRARY_PATH": "/opt/lib"}}`)
	spec.Env = map[string]string{"SESSION_BACKEND_ID": "b", "SESSION_BACKEND_FENCING_TOKEN": "7"}
	instance := s.start(spec)
	if exit := s.exit(instance); exit.Code != 3 || exit.Signal != "" {
		t.Fatalf("ended with %v", exit)
	}
	_, port, _ := net.SplitHostPort(instance.Address())
	root, err := filepath.EvalSymlinks(s.root)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"env GREETING=hello = x", "env HOME=" + dir, "env HOST=127.0.0.1", "env PATH=" + process.DefaultPath, "env PORT=" + port,
		"env SESSION_BACKEND_FENCING_TOKEN=7", "env SESSION_BACKEND_ID=b", "env TMPDIR=/tmp/own", "env SESSION_SECRET=s",
		"env LD_LIBRARY_PATH=/opt/lib", "dir " + dir, "args " + root + "/helper as=show two words", "stdin 0", "to stderr",
	}
	var got []string
	for _, line := range s.rest() {
		if (line.Text == "to stderr") != (line.Stream == runtime.Stderr) || line.Time.IsZero() {
			t.Errorf("line %+v", line)
		}
		if strings.HasPrefix(line.Text, "env JETWAY_STATE=") || line.Text == "env JETWAY_DRONE=" { // by which it is found
			continue
		}
		// Its own directory has a name that nobody can foresee here.
		own := regexp.MustCompile(regexp.QuoteMeta(dir) + `/backend-[0-9]+$`)
		got = append(got, own.ReplaceAllLiteralString(line.Text, dir))
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Fatalf("got  %q\nwant %q", got, want)
	}
}

func TestDeafProcessIsKilled(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	instance := s.start(s.spec("as=deaf"))
	s.line("pid ")
	if err := instance.Terminate(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	select {
	case <-instance.Done():
		t.Fatal("it should have ignored SIGTERM")
	default:
	}
	if err := instance.Terminate(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if exit := s.exit(instance); exit.Signal != "SIGKILL" || exit.Code != -1 || exit.String() != "ended by SIGKILL" {
		t.Fatalf("ended with %v", exit)
	}
}

func TestI8FloodIsBounded(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(c *process.Config) { c.LogLines, c.LogBytes = 100, 32<<10 })
	began := time.Now()
	mebibytes := testkit.Sized(t, 8, 64)
	instance := s.start(s.spec("as=flood", strconv.Itoa(mebibytes)))
	if exit := s.exit(instance); exit.Code != 0 {
		t.Fatalf("ended with %v", exit)
	}
	seconds := int(time.Since(began)/time.Second) + 2
	passed, dropped := 0, 0
	for _, line := range s.rest() {
		switch line.Stream {
		case runtime.Stdout:
			passed++
		case runtime.Notice:
			n, err := strconv.Atoi(strings.Fields(line.Text)[0])
			if err != nil {
				t.Fatal(err)
			}
			dropped += n
		}
	}
	if passed > (100+100)*seconds || passed < 100 { // and a tail
		t.Errorf("%d lines were passed on in %d s", passed, seconds)
	}
	if written := mebibytes * 8192; passed+dropped != written {
		t.Errorf("%d passed on and %d dropped of %d", passed, dropped, written)
	}
}

func TestLastLinesComeWhileTheProcessIsSilent(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(c *process.Config) { c.LogLines = 1 })
	// The second line, which comes with the first, is too much for now, then nothing more is written.
	if err := writeScript(s.root, "quiet", `printf 'one\ntwo\n'; exec sleep 1000`); err != nil {
		t.Fatal(err)
	}
	spec := s.spec()
	spec.Executable = []byte(`{"command": ["quiet"]}`)
	s.start(spec)
	s.line("two")
}

func TestLongLinesAreSplit(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	s.exit(s.start(s.spec("as=long")))
	var texts []string
	for _, line := range s.rest() {
		if len(line.Text) > 8<<10 {
			t.Errorf("a line of %d bytes", len(line.Text))
		}
		texts = append(texts, line.Text)
	}
	n := len(texts)
	if n < 5 || strings.Join(texts[:n-2], "") != strings.Repeat("é", 20_000) || texts[n-2] != "a\uFFFDb" || texts[n-1] != "no end" {
		t.Fatalf("%d lines, the last of them %q", n, texts[max(0, n-2):])
	}
}

func TestPortsAreNotGivenOutTwice(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	seen := map[string]bool{}
	for range 20 {
		instance := s.start(s.spec("as=nothing")) // ends at once, and never listens
		if seen[instance.Address()] {
			t.Fatalf("%s was given out twice", instance.Address())
		}
		seen[instance.Address()] = true
		s.exit(instance)
	}
}

func TestCloseKillsAndIsFinal(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	instance := s.start(s.spec("as=deaf"))
	s.line("pid ")
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-instance.Done():
	default:
		t.Fatal("Close returned before the instance had ended")
	}
	if _, err := s.Start(t.Context(), s.spec("as=deaf")); !errors.Is(err, runtime.ErrClosed) {
		t.Fatalf("start after Close: %v", err)
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	done := make(chan error, 8)
	for n := range cap(done) {
		spec := s.spec("as=nothing")
		spec.BackendID = "b" + strconv.Itoa(n)
		go func() {
			for range 3 {
				instance, err := s.Start(t.Context(), spec)
				if err != nil {
					done <- err
					return
				}
				<-instance.Done()
				if exit := instance.Exit(); exit != (runtime.Exit{}) {
					done <- errors.New(exit.String())
					return
				}
			}
			done <- nil
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
