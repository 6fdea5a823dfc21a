package process_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/runtime/process"
	"github.com/jetway-project/jetway/internal/testkit"
)

// needsPrograms leaves a test out where it has not what it runs.
func needsPrograms(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			testkit.LeaveOut(t, "tests that run "+name, "install it")
		}
	}
}

// daemons starts what ordinary programs leave behind: a child with an empty environment and a
// session of its own, an agent that daemonizes, and a server that does.
const daemons = `
cd "$HOME"
env -i setsid sh -c 'echo clean $$; exec sleep 1000' &
eval "$(ssh-agent -a "$TMPDIR/agent" -s)" > /dev/null; echo agent $SSH_AGENT_PID
cat > nginx.conf <<END
daemon on; master_process on; pid $HOME/nginx.pid; error_log $HOME/error.log; events {}
http { access_log off; client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
  server { listen $HOST:$PORT; } }
END
nginx -e "$HOME/error.log" -p "$HOME" -c "$HOME/nginx.conf" || cat error.log
while ! [ -s nginx.pid ]; do sleep 0.01; done
echo nginx $(cat nginx.pid)
`

// I1: nothing of a backend is left when it has ended, whatever it did to its environment,
// session and parents, and whoever the agent runs as.
func TestI1NothingOutlivesItsBackend(t *testing.T) {
	t.Parallel()
	needsPrograms(t, "nginx", "ssh-agent", "setsid")
	for name, user := range map[string]int{"as root": 0, "as the unit's user": nobody} {
		for _, order := range []string{"end", "kill", "itself"} {
			t.Run(name+", "+order, func(t *testing.T) {
				t.Parallel()
				k := newKeeper(t, user)
				k.config.Path = "/usr/sbin:/usr/bin:/sbin:/bin"
				if user != 0 {
					k.delegate(user)
				}
				script := daemons + "exec sleep 1000"
				if order == "itself" {
					script = daemons + "read line < go"
					script = strings.Replace(script, "\n", "\nmkfifo \"$HOME/go\"; echo home $HOME\n", 1)
				}
				k.start(script, "null")
				if why := k.says("lacks "); why != "" {
					t.Fatal(why)
				}
				home := ""
				if order == "itself" {
					home = k.says("line home ")
				}
				// In whatever order they come.
				var left []watched
				for len(left) < 3 {
					name, pid, _ := strings.Cut(k.says("line "), " ")
					if name == "clean" || name == "agent" || name == "nginx" {
						left = append(left, watch(t, pid))
					}
				}
				for _, process := range left {
					process.lives(t)
				}
				if order == "itself" {
					if err := os.WriteFile(filepath.Join(home, "go"), []byte("on\n"), 0o600); err != nil {
						t.Fatal(err)
					}
				} else {
					k.tell(order)
				}
				k.says("done ")
				for _, process := range left {
					if !process.endsWithin(0) {
						t.Error("something of the backend lives")
					}
				}
				testkit.Eventually(t, "the state directory is empty", func() bool {
					entries, err := os.ReadDir(k.config.StateDir)
					return err == nil && len(entries) == 0
				})
			})
		}
	}
}

// Where no control group can be made the agent runs without, and says why; with one that it
// is told to use, it does not start.
func TestWithoutControlGroups(t *testing.T) {
	t.Parallel()
	t.Run("not delegated", func(t *testing.T) {
		t.Parallel()
		k := newKeeper(t, nobody)
		k.start("exec sleep 1000", "null")
		if why := k.says("lacks "); !strings.Contains(why, "Delegate=yes") {
			t.Fatalf("it says %q", why)
		}
		k.tell("end")
		k.says("done ")
	})
	t.Run("read-only", func(t *testing.T) {
		t.Parallel()
		needsPrograms(t, "unshare")
		k := newKeeper(t, 0)
		helper := k.cmd.Path
		k.cmd.Path, _ = exec.LookPath("unshare")
		k.cmd.Args = []string{
			"unshare", "-m", "sh", "-c",
			`for m in $(grep -o ' /sys/fs/cgroup[^ ]* ' /proc/mounts); do mount -o remount,bind,ro "$m"; done; exec "$@"`, "sh", helper,
		}
		k.start("exec sleep 1000", "null")
		if why := k.says("lacks "); !strings.Contains(why, "read-only file system") {
			t.Fatalf("it says %q", why)
		}
		k.tell("end")
		k.says("done ")
	})
	t.Run("without controllers", func(t *testing.T) {
		t.Parallel()
		needsGroups(t)
		needsPrograms(t, "unshare")
		k := newKeeper(t, 0)
		helper := k.cmd.Path
		k.cmd.Path, _ = exec.LookPath("unshare")
		k.cmd.Args = []string{
			"unshare", "-m", "sh", "-c",
			`for m in $(grep ' cgroup ' /proc/mounts | cut -d' ' -f2); do umount -l "$m"; done; exec "$@"`, "sh", helper,
		}
		k.start("exec sleep 1000", "null")
		if why := k.says("lacks "); why != "" {
			t.Fatalf("it does without: %q", why)
		}
		// Those of the machine that are on the unified hierarchy are there.
		if limits := k.says("limits "); !strings.Contains(limits, "memory:") || !strings.Contains(limits, "has no such controller") {
			testkit.LeaveOut(t, "tests of controllers that are missing", "run where they are on hierarchies of v1")
		}
		k.tell("kill")
		if exit := k.says("done "); exit != "ended by SIGKILL" {
			t.Errorf("it says %q", exit)
		}
	})
	t.Run("named", func(t *testing.T) {
		t.Parallel()
		_, err := process.New(process.Config{Root: newRoot(t), Cgroup: t.TempDir()})
		if err == nil || !strings.Contains(err.Error(), "is no control group") {
			t.Fatalf("got %v", err)
		}
	})
}

// In a container that has its own part of the hierarchy, and where no unit delegates anything, the
// agent makes room for its backends' control groups itself.
func TestControlGroupsInAContainer(t *testing.T) {
	t.Parallel()
	needsGroups(t)
	needsPrograms(t, "unshare", "setsid")
	k := newKeeper(t, 0)
	k.delegate(0)
	helper := k.cmd.Path
	k.cmd.Path, _ = exec.LookPath("unshare")
	k.cmd.Args = []string{
		"unshare", "-m", "-C", "sh", "-c",
		`m=$(grep ' cgroup2 ' /proc/mounts | head -n1 | cut -d' ' -f2); umount -l "$m" && mount -t cgroup2 cgroup2 "$m" && exec "$@"`, "sh", helper,
	}
	k.start(`env -i setsid sh -c 'echo clean $$; exec sleep 1000' & exec sleep 1000`, "null")
	if why := k.says("lacks "); why != "" {
		t.Fatal(why)
	}
	if group := k.says("group "); strings.Contains(group, "/jetway/") || !strings.HasSuffix(group, "/b") {
		t.Fatalf("its group is %s", group)
	}
	child := k.watches("line clean ")
	k.tell("end")
	k.says("done ")
	if !child.endsWithin(0) {
		t.Error("something of the backend lives")
	}
}

// A backend gets no descriptor but its own three, and cannot read what the agent was given,
// though it is the same user.
func TestBackendInheritsNothingOfTheAgent(t *testing.T) {
	t.Parallel()
	k := newKeeper(t, nobody)
	lock, err := os.Create(filepath.Join(t.TempDir(), "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	k.cmd.ExtraFiles = []*os.File{lock}
	k.cmd.Env = []string{"NATS_PASSWORD=secret", "PATH=/usr/bin:/bin"}
	k.start(`
for fd in /proc/$$/fd/*; do echo descriptor $(readlink $fd); done
tr '\0' '\n' < /proc/$PPID/environ 2>&1 | sed 's/^/environ /'
cat /proc/$PPID/maps > /dev/null 2>&1 && echo memory
grep NoNewPrivs /proc/self/status
echo over; exec sleep 1000`, "null")
	for {
		line := k.says("line ")
		if line == "over" {
			break
		}
		if strings.HasSuffix(line, "/lock") || line == "memory" || strings.Contains(line, "secret") || line == "NoNewPrivs:\t0" {
			t.Errorf("it said %q", line)
		}
	}
	k.tell("kill")
	k.says("done ")
}

// Each backend is a user of its own, if the operator wants, with a directory that is its own
// and is removed at its end, whatever it has made of it.
func TestBackendsAreUsersOfTheirOwn(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		testkit.LeaveOut(t, "tests of --process-user", "run as root")
	}
	h := newHeir(t)
	h.config.User = "60001-60002"
	for dir := h.config.Root; filepath.Base(dir) != "tmp"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Dir(h.config.StateDir), 0o755); err != nil {
		t.Fatal(err)
	}
	h.open(t)
	if err := writeScript(h.root, "script", `
echo user $(id -u) $(id -g) $(id -G); echo home $HOME
echo two words > "$HOME/file" && echo x > "$TMPDIR/file" && echo again > /dev/stdout
mkdir -p "$HOME/module/dir" && echo x > "$HOME/module/dir/file" && chmod 500 "$HOME/module/dir" "$HOME/module"
cat "$HOME"/../*.dir/file; ls "$HOME/.." 2>&1
read line < /dev/null; exec sleep 1000`); err != nil {
		t.Fatal(err)
	}
	homes := map[string]*process.Instance{}
	for n, want := range []string{"60001 60001 60001", "60002 60002 60002"} {
		h.id = "b" + strconv.Itoa(n)
		spec := h.specOf()
		spec.Executable = []byte(`{"command": ["script"]}`)
		instance := h.start(spec)
		if got := h.line("user "); got != want {
			t.Errorf("it is user %s, want %s", got, want)
		}
		homes[h.line("home ")] = instance
		h.line("again")
		// The neighbour's is closed to it, and so is the list of what there is.
		if denied := h.line("ls: "); !strings.Contains(denied, "Permission denied") {
			t.Errorf("it can list the directory: %s", denied)
		}
	}
	h.id = "b2"
	if _, err := h.Start(t.Context(), h.specOf()); err == nil || !strings.Contains(err.Error(), "--process-user") {
		t.Errorf("a third one: %v", err)
	}
	for home, instance := range homes {
		if err := instance.Terminate(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		h.exit(instance)
		if _, err := os.Stat(home); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", home, err)
		}
	}
	spec := h.specOf() // there is a user again
	spec.Executable = []byte(`{"command": ["helper", "as=nothing"]}`)
	h.exit(h.start(spec))
	h.leftNothing(t)
}

func TestProcessUserIsChecked(t *testing.T) {
	t.Parallel()
	root := newRoot(t)
	for user, want := range map[string]string{
		"no-such-user": "there is no user", "0": "root may do all", "root": "root may do all", "5-4": "is no range", "0-5": "is no range",
		"1-": "there is no user", "60001": "is closed to other users",
	} {
		if os.Geteuid() != 0 {
			want = "only an agent that runs as root"
		}
		if user == "60001" {
			user = "60001-60002"
		}
		rt, err := process.New(process.Config{Root: root, User: user, StateDir: filepath.Join(t.TempDir(), "state"), Drone: "dr-a"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, %v, want %q", user, rt, err, want)
		}
	}
}

// A backend reads what it is made of and writes what is its own, and nothing else, though its user
// could.
func TestLandlock(t *testing.T) {
	t.Parallel()
	for name, user := range map[string]int{"as root": 0, "as the unit's user": nobody} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKeeper(t, user)
			k.config.Landlock = true
			secret := filepath.Join(k.config.StateDir, "secret")
			if err := os.WriteFile(secret, []byte("secret"), 0o644); err != nil {
				t.Fatal(err)
			}
			other := t.TempDir()
			if err := os.Chmod(other, 0o777); err != nil {
				t.Fatal(err)
			}
			k.start(`
exec 2>/dev/null
echo x > "$HOME/file" && mkdir "$TMPDIR/dir" && mv "$HOME/file" "$TMPDIR/dir/" && echo can write its own
cat "$0" > /dev/null && echo can read the root
echo can write to its output > /dev/stdout
cat `+secret+` && echo can read the secret
echo x > `+other+`/file && echo can write elsewhere
echo >> "$0" && echo can write to the root
kill -0 $PPID && echo can signal the agent
echo over
exec sleep 1000`, "null")
			if why := k.says("unconfined "); why != "" {
				t.Log(why)
				testkit.LeaveOut(t, "tests of Landlock", "run on Linux 6.12 or later")
			}
			var can []string
			for line := ""; line != "over"; {
				if line = k.says("line "); line != "over" {
					can = append(can, line)
				}
			}
			if want := []string{"can write its own", "can read the root", "can write to its output"}; !slices.Equal(can, want) {
				t.Errorf("it %q, want %q", can, want)
			}
			k.tell("end")
			if exit := k.says("done "); exit != "ended by SIGTERM" {
				t.Errorf("it says %q", exit)
			}
		})
	}
}
