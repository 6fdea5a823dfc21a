//go:build linux

package torture_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/testkit"
)

// proc is a process of the system, started anew as often as it is killed.
type proc struct {
	name    string
	command []string
	env     []string
	log     string
	// links are its ways to others, all of which fail together when it is cut off.
	links []*testkit.FaultProxy

	mu     sync.Mutex
	cmd    *exec.Cmd
	ended  chan struct{}
	frozen bool
	starts int
	// wanted says that it is to run: one that ends all the same has failed.
	wanted bool
	// apart says that it is a machine of its own.
	apart  bool
	failed func(string)
}

func (p *proc) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.command[0], p.command[1:]...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	// What is meant for the harness's group is the harness's to pass on.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if p.apart {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	ended := make(chan struct{})
	p.cmd, p.ended, p.frozen, p.wanted = cmd, ended, false, true
	p.starts++
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		unasked := p.wanted && p.cmd == cmd
		p.mu.Unlock()
		if unasked {
			p.failed(fmt.Sprintf("I7: %s ended by itself: %v; its log: %s", p.name, err, p.log))
		}
		close(ended)
	}()
	return nil
}

// signal sends one to the process, if it runs.
func (p *proc) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(s)
	}
}

// end sends a signal that ends the process and waits for that.
func (p *proc) end(s syscall.Signal) {
	p.mu.Lock()
	cmd, ended := p.cmd, p.ended
	p.wanted = false
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(syscall.SIGCONT)
	_ = cmd.Process.Signal(s)
	select {
	case <-ended:
	case <-time.After(testkit.Patience):
		p.failed(fmt.Sprintf("I8: %s does not end after %s; its log: %s", p.name, s, p.log))
		_ = cmd.Process.Signal(syscall.SIGQUIT)
		select {
		case <-ended:
		case <-time.After(testkit.Patience):
			_ = cmd.Process.Kill()
			<-ended
		}
	}
}

// residentMemory is what the process has in memory, in bytes; 0 when it does not run.
func (p *proc) residentMemory() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	if fields := strings.Fields(string(statm)); err == nil && len(fields) > 1 {
		pages, _ := strconv.ParseInt(fields[1], 10, 64)
		return pages * int64(os.Getpagesize())
	}
	return 0
}

// processes are all that the system has started, by number, whoever their parent is now:
// those with its mark in their environment, and those whose program is in its directory,
// as a guard is, which keeps no environment.
func (s *system) processes() map[int]string {
	found := map[int]string{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		environ, _ := os.ReadFile(filepath.Join(dir, "environ"))
		cmdline, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if pid == os.Getpid() || len(cmdline) == 0 { // it has ended
			continue
		}
		if bytes.Contains(environ, []byte(s.mark)) || bytes.HasPrefix(cmdline, []byte(s.dir+"/")) {
			found[pid] = strings.ReplaceAll(string(cmdline), "\x00", " ")
		}
	}
	return found
}

// build makes the jetway program.
func build(t *testing.T, dir string, flags ...string) string {
	t.Helper()
	path := filepath.Join(dir, "jetway")
	if err := testkit.Build(t.Context(), path, append(flags, "-ldflags=-s -w", "github.com/jetway-project/jetway/cmd/jetway")...); err != nil {
		t.Fatal(err)
	}
	return path
}
