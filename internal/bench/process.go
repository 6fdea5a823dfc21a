package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a child whose cost is measured.
type process struct {
	name   string
	cmd    *exec.Cmd
	stdin  io.Closer // closing it ends those that read it, also when the bench is killed
	ended  chan struct{}
	endErr error // once ended is closed
	said   tail
}

// start starts a program. What it says on standard error is kept for errors.
func start(name string, argv, env []string, stdout io.Writer) (*process, error) {
	p := &process{name: name, ended: make(chan struct{})}
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = stdout, &p.said
	p.cmd.WaitDelay = time.Second
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p.stdin = stdin
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.endErr = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// stop asks it to end, and kills it if it does not.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = p.stdin.Close()
	select {
	case <-p.ended:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// failed says why it has ended.
func (p *process) failed() error {
	return fmt.Errorf("%s has ended: %w: %s", p.name, errors.Join(p.endErr), strings.TrimSpace(p.said.String()))
}

// answers waits until the process answers a request.
func (p *process) answers(ctx context.Context, t target) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn := &httpConn{target: t, path: smallPath}
		err := conn.do(ctx)
		conn.close()
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return p.failed()
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w: %s", p.name, err, strings.TrimSpace(p.said.String()))
		case <-tick.C:
		}
	}
}

// usage is what a process has of the machine, its own children included.
type usage struct {
	resident int64         // bytes
	cpu      time.Duration // 0 where it cannot be told
}

// usage reads it: from /proc where there is one, else from ps.
func (p *process) usage() (usage, error) {
	if runtime.GOOS != "linux" {
		return p.usageByPS()
	}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return usage{}, err
	}
	var u usage
	self := strconv.Itoa(p.cmd.Process.Pid)
	for _, path := range stats {
		pid := filepath.Base(filepath.Dir(path))
		_, fields := procStat(pid) // nothing, if it has ended
		if len(fields) < 22 || (pid != self && fields[1] != self) {
			continue
		}
		u.cpu += ticks(fields[11]) + ticks(fields[12])
		pages, _ := strconv.ParseInt(fields[21], 10, 64)
		u.resident += pages * int64(os.Getpagesize())
	}
	return u, nil
}

// children is the processor time of what the process has started, as far as it can be told.
func (p *process) children() (used time.Duration) {
	for _, pid := range childrenOf(strconv.Itoa(p.cmd.Process.Pid)) {
		used += processUsage(pid)
	}
	return used
}

func (p *process) usageByPS() (usage, error) {
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=,rss=").Output()
	if err != nil {
		return usage{}, fmt.Errorf("ask ps for the memory of %s: %w", p.name, err)
	}
	var u usage
	for line := range strings.Lines(string(out)) {
		var pid, parent int
		var kib int64
		if _, err := fmt.Sscan(line, &pid, &parent, &kib); err == nil && (pid == p.cmd.Process.Pid || parent == p.cmd.Process.Pid) {
			u.resident += kib << 10
		}
	}
	return u, nil
}

// freeAddress is one on the loopback where nobody listens at the moment.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return listener.Addr().String(), listener.Close()
}

// firstLine gives the first line that is written to it.
type firstLine struct {
	line chan string
	text []byte
}

func (f *firstLine) Write(p []byte) (int, error) {
	if f.line != nil {
		f.text = append(f.text, p...)
		if line, _, ok := bytes.Cut(f.text, []byte("\n")); ok {
			f.line <- string(line)
			f.line, f.text = nil, nil
		}
	}
	return len(p), nil
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-2000):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
