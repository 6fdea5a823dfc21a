package guard

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/jetway-project/jetway/internal/boottime"
	"github.com/jetway-project/jetway/internal/procs"
)

// environment is all that the guard gets of one, but for what leads to the engine of containers.
// It keeps the guard small, which has next to nothing on its heap, and so the last in line when
// memory runs out.
func environment() []string {
	env := []string{"GOGC=50", "GOMEMLIMIT=24MiB", "GOMAXPROCS=1"}
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "DOCKER_") || strings.HasPrefix(v, "XDG_RUNTIME_DIR=") || strings.HasPrefix(v, "HOME=") {
			env = append(env, v)
		}
	}
	return env
}

// look says why no guard stands, or what its trouble is.
func (p *Post) look() error {
	boot, err := boottime.BootID()
	if err != nil {
		return err
	}
	n, err := readNote(p.dir)
	if err == nil {
		err = n.stands(boot)
	}
	if child := p.child.Load(); errors.Is(err, errHung) && child != nil && child.Pid == n.PID {
		_ = child.Kill() // it was stopped, or hangs: another one is started
	}
	switch {
	case err == nil && n.Trouble != "":
		return errors.New(n.Trouble)
	case err != nil && len(p.command) == 0:
		return fmt.Errorf("no guard stands over %s (%w): start the unit jetway-guard@, or let the drone start one (--guard self)", p.dir, err)
	case err != nil:
		return fmt.Errorf("no guard stands over %s: %w", p.dir, err)
	}
	return nil
}

var errHung = errors.New("not looked")

// stands says why a guard does not stand that said so.
func (n note) stands(boot string) error {
	stat, err := procs.Read(n.PID)
	switch {
	case n.Boot != boot || errors.Is(err, procs.ErrGone) || err == nil && (stat.Start != n.Start || stat.Zombie):
		return errors.New("it has ended")
	case err != nil:
		return err
	case !n.fresh(boottime.Now()):
		return fmt.Errorf("process %d has %w for %s", n.PID, errHung, boottime.Now()-time.Duration(n.AtMS)*time.Millisecond)
	}
	return nil
}

// post starts one guard in a session of its own and returns when it has ended, and why, or nil
// when ctx has: it goes on then. It learns of this process's end by its standard input.
func (p *Post) post(ctx context.Context) error {
	log, err := openLog(p.dir)
	if err != nil {
		return err
	}
	defer log.Close()
	command := exec.Command(p.command[0], p.command[1:]...)
	command.Dir, command.Env, command.Stderr = "/", environment(), log
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	hold, err := command.StdinPipe()
	if err != nil {
		return err
	}
	defer hold.Close()
	if err := command.Start(); err != nil {
		return fmt.Errorf("start %q: %w", p.command, err)
	}
	id, err := procs.Identify(command.Process.Pid) // it cannot be reaped but by this process
	if err != nil {
		return errors.Join(err, command.Process.Kill(), command.Wait())
	}
	child, err := procs.Open(id)
	if err != nil {
		return errors.Join(err, command.Process.Kill(), command.Wait())
	}
	defer child.Close()
	defer context.AfterFunc(ctx, child.Close)()
	p.log.InfoContext(ctx, "started a guard", "pid", id.PID)
	p.child.Store(command.Process)
	defer p.child.Store(nil)
	if child.Wait() != nil {
		return nil // ctx has ended
	}
	if err := command.Wait(); err != nil {
		return err
	}
	return errors.New("exit code 0")
}
