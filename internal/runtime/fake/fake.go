// Package fake is the runtime that runs nothing: a test says in the executable
// what should happen, and the instance behaves so.
//
//	{"fake": {"prepare_error": "no such image", "start_error": "exec format error",
//	          "prepare_for": "1s", "run_for": "1s", "exit_code": 3,
//	          "ignore_term": true, "term_for": "1s", "address": "127.0.0.1:9999",
//	          "memory_bytes": 1000000, "cpu_millis": 500, "print": ["hello"],
//	          "progress": ["1 of 2 MB"], "uses_cpu": "1ms", "uses_memory": 1000000, "sleep_error": "not now"}}
//
// All fields are optional; `{}` runs until it is terminated. Durations are Go's.
// The address is empty unless one is given, which by the contract of package
// runtime means: ready at once.
//
// An instance costs one small allocation and no goroutine; a timer only where the
// script asks for one. So thousands can be started per second. The runtime holds
// the instances that run; Close ends them.
package fake

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jetway-project/jetway/internal/pause"
	"github.com/jetway-project/jetway/internal/runtime"
)

// Script is what one instance does: the content of the executable's field `fake`.
type Script struct {
	// PrepareError and StartError make Prepare and Start fail with this text.
	PrepareError string `json:"prepare_error,omitempty"`
	StartError   string `json:"start_error,omitempty"`
	// PrepareFor is how long Prepare takes, or until its context ends.
	PrepareFor Duration `json:"prepare_for,omitzero"`
	// RunFor ends the instance by itself after this time; 0 means never.
	RunFor Duration `json:"run_for,omitzero"`
	// ExitCode is the exit code when it ends by itself or by a soft Terminate.
	ExitCode int `json:"exit_code,omitempty"`
	// IgnoreTerm makes a soft Terminate do nothing.
	IgnoreTerm bool `json:"ignore_term,omitempty"`
	// TermFor is how long it takes to end after a soft Terminate.
	TermFor Duration `json:"term_for,omitzero"`
	// Address is where the instance claims to listen.
	Address string `json:"address,omitempty"`
	// MemoryBytes and CPUMillis are what it demands of the drone.
	MemoryBytes int64 `json:"memory_bytes,omitempty"`
	CPUMillis   int64 `json:"cpu_millis,omitempty"`
	// SleepError makes Sleep fail with this text.
	SleepError string `json:"sleep_error,omitempty"`
	// UsesCPU is the processor time that it uses from one asking to the next, and
	// UsesMemory the memory in bytes. Without either its usage cannot be told.
	UsesCPU    Duration `json:"uses_cpu,omitzero"`
	UsesMemory uint64   `json:"uses_memory,omitempty"`
	// Progress holds what Prepare is at, one after another, before prepare_for.
	Progress []string `json:"progress,omitempty"`
	// Print holds lines that go to Spec.Log during Start.
	Print []string `json:"print,omitempty"`
}

// Executable returns the executable that makes the runtime follow the script.
func (s Script) Executable() json.RawMessage {
	raw, err := json.Marshal(map[string]Script{"fake": s})
	if err != nil {
		panic("fake: a script is always JSON: " + err.Error())
	}
	return raw
}

// Duration is a time.Duration that is text in JSON, as in "1.5s".
type Duration time.Duration

// MarshalText writes the duration as Go does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what time.ParseDuration reads, not negative.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return err
	}
	if parsed < 0 {
		return fmt.Errorf("negative duration %q", text)
	}
	*d = Duration(parsed)
	return nil
}

// Runtime is the fake runtime. Make it with New.
type Runtime struct {
	mu     sync.Mutex
	closed bool
	live   map[*Instance]struct{}
}

var _ runtime.Runtime = (*Runtime)(nil)

// New returns a runtime without instances.
func New() *Runtime { return &Runtime{live: map[*Instance]struct{}{}} }

// Prepare does what the script says.
func (r *Runtime) Prepare(ctx context.Context, spec runtime.Spec) error {
	script, err := parse(spec.Executable)
	if err != nil {
		return err
	}
	if spec.Progress != nil {
		for _, text := range script.Progress {
			spec.Progress(text)
		}
	}
	if script.PrepareFor > 0 && !pause.Sleep(ctx, time.Duration(script.PrepareFor)) {
		return fmt.Errorf("prepare: %w", context.Cause(ctx))
	}
	if script.PrepareError != "" {
		return errors.New(script.PrepareError)
	}
	return nil
}

// Start adds an instance that follows the script.
func (r *Runtime) Start(ctx context.Context, spec runtime.Spec) (runtime.Instance, error) {
	script, err := parse(spec.Executable)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("start: %w", context.Cause(ctx))
	}
	if script.StartError != "" {
		return nil, errors.New(script.StartError)
	}
	instance := &Instance{
		script: script, owner: r, done: make(chan struct{}),
		backendID: spec.BackendID, env: spec.Env,
	}
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, fmt.Errorf("start: %w", runtime.ErrClosed)
	}
	r.live[instance] = struct{}{}
	r.mu.Unlock()
	if spec.Log != nil {
		for _, text := range script.Print {
			spec.Log(runtime.Line{Time: time.Now(), Stream: runtime.Stdout, Text: text})
		}
	}
	if script.RunFor > 0 {
		instance.endAfter(time.Duration(script.RunFor), runtime.Exit{Code: script.ExitCode})
	}
	return instance, nil
}

// Sleeps says that its instances can sleep.
func (r *Runtime) Sleeps() bool { return true }

// Demands is what the script says.
func (r *Runtime) Demands(executable json.RawMessage) runtime.Demands {
	script, err := parse(executable)
	if err != nil {
		return runtime.Demands{}
	}
	return runtime.Demands{MemoryBytes: script.MemoryBytes, CPUMillis: script.CPUMillis}
}

// Close ends every instance.
func (r *Runtime) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	for _, instance := range r.Live() {
		instance.end(killed)
	}
	return nil
}

// Live returns the instances that run, in no order: for tests that want to look
// at them or end them.
func (r *Runtime) Live() []*Instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	live := make([]*Instance, 0, len(r.live))
	for instance := range r.live {
		live = append(live, instance)
	}
	return live
}

// parse reads the executable. One without `fake` is as good as an empty script,
// so that requests made for another runtime can be used as they are.
func parse(executable json.RawMessage) (Script, error) {
	var outer struct {
		Fake json.RawMessage `json:"fake"`
	}
	if bytes.HasPrefix(executable, []byte("{")) && !bytes.Contains(executable, []byte(`"fake"`)) {
		return Script{}, nil // reading it would cost more than all else that an instance does
	}
	if len(executable) > 0 {
		if err := json.Unmarshal(executable, &outer); err != nil {
			return Script{}, fmt.Errorf("executable: %w", err)
		}
	}
	var script Script
	if len(outer.Fake) > 0 {
		decoder := json.NewDecoder(bytes.NewReader(outer.Fake))
		decoder.DisallowUnknownFields() // a misspelt script would make a test pass for nothing
		if err := decoder.Decode(&script); err != nil {
			return Script{}, fmt.Errorf("executable: fake: %w", err)
		}
	}
	return script, nil
}
