package guard

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/boottime"
	"github.com/jetway-project/jetway/internal/drone/journal"
	"github.com/jetway-project/jetway/internal/procs"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// droneOf is a drone's name that no other test has, on this machine: what carries the
// name of a drone and the id of a backend is killed, whoever started it.
func droneOf(dir string) string {
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(dir))
	return fmt.Sprintf("dr-%x", sum.Sum64())
}

// The test binary is also the guard, the agent and the backends of the tests: with a
// first argument "as=…" it plays that part.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if part, ok := strings.CutPrefix(os.Args[1], "as="); ok {
			play(part, os.Args[2:])
			os.Exit(0)
		}
	}
	flag.Parse()
	_ = flag.Set("test.parallel", "8") // they wait more than they work
	testkit.Main(m)
}

func play(part string, args []string) {
	switch part {
	case "guard": // DIR
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		must(Run(ctx, Config{Dir: args[0], Agent: os.Stdin, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}))
	case "service": // DIR: a guard that no agent has started
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		must(Run(ctx, Config{Dir: args[0], Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}))
	case "backend": // ignores SIGTERM, as do its children: one in its group, one that left
		deaf := make(chan os.Signal, 1)
		signal.Notify(deaf, syscall.SIGTERM)
		for _, kind := range args {
			child := exec.Command(os.Args[0], "as=backend")
			child.SysProcAttr = &syscall.SysProcAttr{Setsid: kind == "leaver"}
			must(child.Start())
			fmt.Println(kind, child.Process.Pid)
		}
		fmt.Println("pid", os.Getpid())
		for range deaf {
		}
	case "agent": // DIR: runs one backend, and renews it as it is told
		agent(args[0])
	}
}

// far is a lease that no test lives to see run out.
const far = 24 * time.Hour

// agent takes orders "BACKEND TTL…", which give a backend, or "all" that have none of their own, a lease for each of
// these times, one after the other, and says its deadline then. At first leases are far from their end.
func agent(dir string) {
	j, err := open(dir)
	must(err)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	post := Start(context.Background(), log, []string{os.Args[0], "as=guard", dir}, dir, func() {})
	must(post.Await(context.Background()))

	hardAtMS := func(ttl time.Duration) int64 { return (boottime.Now() + ttl).Milliseconds() }
	must(j.Renew(journal.Lease{SoftAtMS: hardAtMS(far), HardAtMS: hardAtMS(far)}))
	states := map[string]*journal.State{}
	for id, children := range map[string][]string{"b": {"child", "leaver"}, "marker": nil} {
		must(put(j, id, journal.State{Status: messages.Ready}))
		cmd := backendCommand(os.Args[0], id, droneOf(dir), children...)
		if id == "b" {
			cmd.Stdout = os.Stdout
		}
		must(cmd.Start())
		process, err := procs.Identify(cmd.Process.Pid)
		must(err)
		states[id] = &journal.State{Status: messages.Ready, PID: process.PID, Start: process.Start}
		j.Note(journal.Change{BackendID: id, State: states[id]})
		fmt.Println(id, process.PID)
	}
	for orders := bufio.NewScanner(os.Stdin); orders.Scan(); {
		words := strings.Fields(orders.Text())
		lease := journal.Lease{}
		for _, text := range words[1:] {
			ttl, err := time.ParseDuration(text)
			must(err)
			lease.HardAtMS = hardAtMS(ttl)
			if state := states[words[0]]; state != nil {
				state.Own = &lease
				j.Note(journal.Change{BackendID: words[0], State: state})
			} else {
				must(j.Renew(lease))
			}
		}
		fmt.Println("deadline", lease.HardAtMS)
	}
	post.Wait()
}

// open opens the journal of a data directory.
func open(dir string) (*journal.Journal, error) {
	boot, err := boottime.BootID()
	if err != nil {
		return nil, err
	}
	j, _, err := journal.Open(journal.Config{Dir: dir, Drone: droneOf(dir), Machine: "m", Boot: boot})
	return j, err
}

// put has a journal hold a backend.
func put(j *journal.Journal, id string, state journal.State) error {
	_, err := j.Take(journal.Change{BackendID: id, Spawn: &messages.Spawn{Executable: []byte("{}")}, State: &state})
	return err
}

// backendCommand is a process with the labels of a backend, which leads a group.
func backendCommand(self, id, drone string, children ...string) *exec.Cmd {
	cmd := exec.Command(self, append([]string{"as=backend"}, children...)...)
	cmd.Env = []string{runtime.EnvBackendID + "=" + id}
	if drone != "" {
		cmd.Env = append(cmd.Env, runtime.EnvDrone+"="+drone)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(99)
	}
}

// said reads lines "name number" of a process of the tests.
type said struct {
	t     *testing.T
	lines *bufio.Scanner
	got   map[string]int
}

func listen(t *testing.T, cmd *exec.Cmd) *said {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if cmd.Stderr == nil {
		cmd.Stderr = os.Stderr
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &said{t: t, lines: bufio.NewScanner(out), got: map[string]int{}}
}

func (s *said) number(name string) int {
	s.t.Helper()
	for s.got[name] == 0 {
		if !s.lines.Scan() {
			s.t.Fatalf("no line %q came: %v", name, s.lines.Err())
		}
		word, number, _ := strings.Cut(s.lines.Text(), " ")
		s.got[word], _ = strconv.Atoi(number)
	}
	return s.got[name]
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func newJournal(t *testing.T) (j *journal.Journal, dir string) {
	t.Helper()
	dir = dataDir(t)
	return reopen(t, dir), dir
}

// dataDir names an agent's data directory. A guard that is left at the end of the test ends before the directory goes, for it writes there.
func dataDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	t.Cleanup(func() {
		n, err := readNote(dir)
		if err != nil || n.PID == os.Getpid() {
			return // no guard has stood there, or the test itself
		}
		ref, err := procs.Open(procs.ID{PID: n.PID, Start: n.Start})
		if err != nil {
			return // it has ended
		}
		defer ref.Close()
		if err := ref.Signal(syscall.SIGKILL); err != nil {
			return
		}
		watched{t, ref}.ends()
	})
	return dir
}

func reopen(t *testing.T, dir string) *journal.Journal {
	t.Helper()
	j, err := open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}
