// Package runtime declares what the drone asks of the thing that runs its
// backends: the small interface that the packages below it implement, `process`
// for executables of the machine, `docker` for containers, `socket` for a server of the
// operator's own, and `fake` for tests.
//
// What holds for every implementation:
//
//   - Done of an [Instance] is closed only when nothing of the backend runs any
//     more, as far as the runtime can see. The drone reports `terminated`, which
//     releases the lease, only after it, and I1 hangs on this.
//   - A hard Terminate ends an instance without its help.
//   - What a backend does, in output, children or exit codes, costs bounded memory
//     (I8) and never blocks the runtime.
//   - An error of Prepare or Start is text for the person who asked for the
//     backend: it becomes the message of `terminated`, reason `start-failed`. It
//     says what was asked, why it cannot be, and what to do. There is then no
//     instance, and nothing to clean up.
//
// Who closes what: who makes a Runtime closes it, after the drone has stopped
// using it. An Instance needs no closing: when Done is closed it holds nothing.
//
// All that the drone has to remember of a running instance is text: its backend
// id and a handle, by which the runtime finds it again. A runtime whose instances
// outlive the agent is an [Adopter]: a later run of the agent takes them over.
package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// ErrClosed is what a Runtime answers to Prepare and Start after its Close.
var ErrClosed = errors.New("the runtime is closed")

// Runtime runs backends. Its methods may be called from several goroutines.
type Runtime interface {
	// Prepare checks what is to be run and fetches it where that is needed,
	// which may take long; ctx ends it. It may be left out before Start, or be
	// called again.
	Prepare(ctx context.Context, spec Spec) error
	// Start starts the backend and returns without waiting for it to answer. ctx
	// bounds the start alone: its end later does not end the instance.
	Start(ctx context.Context, spec Spec) (Instance, error)
	// Demands is what an executable promises itself of the machine; nothing where it
	// names no limits, or is wrong in a way that Prepare tells.
	Demands(executable json.RawMessage) Demands
	// Close frees what the runtime holds. Instances that still run go on where the
	// runtime is an Adopter; any other hard-terminates them and waits for their end.
	// It may be called twice.
	Close() error
}

// Adopter is a Runtime whose instances outlive the agent.
type Adopter interface {
	Runtime
	// Adopt takes an instance over that an earlier run of the agent started, by the
	// handle that it had, or by the backend's id where handle is "" (the agent died
	// before it noted it). One that has ended, or was never started, comes with Done
	// closed; Exit then says what is still known. An error says that the runtime
	// cannot tell now: ask again.
	Adopt(ctx context.Context, spec Spec, handle string) (Instance, error)
	// Find lists the backends of this drone of which anything is left on the
	// machine, running or not, whoever remembers them: by the labels that they were
	// started with.
	Find(ctx context.Context) (backendIDs []string, err error)
	// WithoutSecrets is the executable as it may stay on a disk, without credentials, and
	// whether it had some, without which it may not be possible to Prepare it.
	WithoutSecrets(executable json.RawMessage) (safe json.RawMessage, had bool)
}

// Grouped is a Runtime that runs each backend in a cgroup of its own.
type Grouped interface {
	Runtime
	// Group is the directory of the cgroup (of version 2) that a backend is started in, also before
	// it is, for the guard: it ends all that is in there. "" where there is none.
	Group(backendID string) string
}

// Remote is a Runtime whose backends somebody else runs, who may be away.
type Remote interface {
	Runtime
	// Away says why nothing can be started now, nil if it can, and gives what is closed when
	// that changes. It does not wait.
	Away() (changed <-chan struct{}, why error)
}

// Demands is what a backend promises itself of the machine; 0: not said.
type Demands struct {
	MemoryBytes int64
	// CPUMillis is in thousandths of a processor.
	CPUMillis int64
}

// Spec is what a runtime is asked to run: one backend.
type Spec struct {
	// BackendID names the backend, for logs and for names of containers.
	BackendID string
	// Namespace and Key are what the backend is run for; files that are kept for
	// a key are named after them.
	Namespace, Key string
	// Executable is the `executable` of the connect request. Only the runtime
	// knows its form.
	Executable json.RawMessage
	// Env holds the SESSION_BACKEND_* variables, which the drone makes. The
	// runtime adds PORT and HOST, and nothing in Executable can override either.
	Env map[string]string
	// Log takes the backend's output line by line; nil drops it. It may be called
	// from several goroutines at once, and must not block for long: the writes of
	// backends wait for it. It is not called after Done.
	Log func(Line)
	// Progress takes what Prepare is at, in words for people ("pulling …: 12 of
	// 80 MB"); nil drops it. It must not block.
	Progress func(text string)
}

// Instance is one backend that was started. Its methods may be called from
// several goroutines.
type Instance interface {
	// Address is the `host:port` where the backend listens, or will. Empty means
	// that there is nothing to connect to or to probe: such an instance counts as
	// ready as soon as it is started.
	Address() string
	// Handle is what Adopt finds the instance by; it does not change. "" where the
	// runtime is no Adopter.
	Handle() string
	// PID is the process on this machine whose end is the instance's, which leads a
	// process group where there is more than one; 0 where there is none.
	PID() int
	// Usage is what the instance uses of the machine now.
	Usage(ctx context.Context) (Usage, error)
	// Terminate asks the backend to end (SIGTERM), or with hard set ends it
	// (SIGKILL). It does not wait for the end; Done tells. On an instance that
	// has ended it does nothing and returns nil.
	Terminate(ctx context.Context, hard bool) error
	// Done is closed when the instance has ended, for whatever reason.
	Done() <-chan struct{}
	// Exit says how it ended. It means something only after Done is closed.
	Exit() Exit
}

// Over says whether a channel such as Done is closed.
func Over(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// Teller is an Instance that tells of its end: where there are thousands, one goroutine each that
// waits for Done takes more memory than all else of them.
type Teller interface {
	Instance
	// OnDone has f called when Done is closed, at once if it is, in the place of one that it was
	// given before and has not called. f may wait a little.
	OnDone(f func())
}

// Sleeper is an Instance that can be frozen where it is. A hard Terminate ends one that sleeps, and a soft one wakes it.
// Nothing else of an Instance wakes it or waits for it.
type Sleeper interface {
	Instance
	// Sleep has all of it stand still, and cost nothing but memory, until Wake. woken is called once, should it go on without
	// that; it may wait a little. After an error it may sleep or not: Wake it.
	Sleep(ctx context.Context, woken func()) error
	// Wake has it go on. Of one that does not sleep, or has ended, it does nothing and returns nil.
	Wake(ctx context.Context) error
}

// Sleeping is a Runtime that can put its instances to sleep, or finds that it cannot where it is.
type Sleeping interface {
	Runtime
	// Sleeps says that each of its instances is a Sleeper that works.
	Sleeps() bool
}

// Reclaimer is a Sleeper whose memory can be handed back while it sleeps.
type Reclaimer interface {
	Sleeper
	// Reclaim has the machine get back up to so many bytes, and says how many it got, and whether there may be more.
	Reclaim(ctx context.Context, bytes uint64) (got uint64, more bool, err error)
}

// Usage is what an instance uses, memory in bytes; 0 where the runtime cannot tell.
type Usage struct {
	// CPU is the processor time used since the instance started.
	CPU time.Duration
	// MemUsed is what counts against the limit, without file cache that is not in use.
	MemUsed, MemActive, MemInactive, MemUnevictable uint64
	// MemLimit is 0 where there is none.
	MemLimit uint64
}

// Exit is how an instance ended.
type Exit struct {
	// Code is the exit code, or -1 when there is none: a signal ended it.
	Code int
	// Signal is the name of the signal that ended it ("SIGKILL"), or "".
	Signal string
	// Message says what else is known in words, or "".
	Message string
}

// String reads like "exit code 3" or "ended by SIGKILL".
func (e Exit) String() string {
	text := fmt.Sprintf("exit code %d", e.Code)
	if e.Signal != "" {
		text = "ended by " + e.Signal
	}
	if e.Message != "" {
		text += ": " + e.Message
	}
	return text
}

// Stream says where a [Line] comes from.
type Stream string

const (
	// Stdout is the backend's standard output.
	Stdout Stream = "stdout"
	// Stderr is the backend's standard error.
	Stderr Stream = "stderr"
	// Notice marks a line by the runtime about the backend's output, for example
	// how many lines were dropped.
	Notice Stream = "notice"
)

// Line is one line of a backend's output.
type Line struct {
	// Time is when the runtime read it, by this machine's wall clock.
	Time time.Time
	// Stream is where it comes from.
	Stream Stream
	// Text is the line without its end, valid UTF-8, and bounded by the runtime: a
	// longer line comes as several.
	Text string
}
