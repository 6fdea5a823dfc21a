package docker

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/distribution/reference"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/executable"
)

// command is the executable of a request. What a client of Plane sends as null is
// the same as what it leaves out.
type command struct {
	Image          executable.Text                     `json:"image"`
	PullPolicy     *executable.Text                    `json:"pull_policy,omitempty"`
	Credentials    *credentials                        `json:"credentials,omitempty"`
	Env            map[executable.Text]executable.Text `json:"env,omitempty"`
	ResourceLimits *limits                             `json:"resource_limits,omitempty"`
	Mount          *mounted                            `json:"mount,omitempty"`
	NetworkName    *executable.Text                    `json:"network_name,omitempty"`

	ref reference.Reference // of Image, with the tag that it has if none is given
}

// credentials are for the registry. No error and no log shows them.
type credentials struct {
	Username secret `json:"username"`
	Password secret `json:"password"`
}

// secret is a JSON string whose errors do not repeat it.
type secret string

// UnmarshalJSON refuses everything that is not a string.
func (s *secret) UnmarshalJSON(raw []byte) error {
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, (*string)(s)) != nil {
		return errors.New("credentials want a string each for username and password")
	}
	return nil
}

// limits are what a container may use; nil: as much as there is.
type limits struct {
	CPUPeriod        *int64 `json:"cpu_period,omitempty"`         // µs
	CPUPeriodPercent *int64 `json:"cpu_period_percent,omitempty"` // 100 is one processor
	CPUTimeLimit     *int64 `json:"cpu_time_limit,omitempty"`     // s
	MemoryLimitBytes *int64 `json:"memory_limit_bytes,omitempty"`
	DiskLimitBytes   *int64 `json:"disk_limit_bytes,omitempty"`
}

// Bounds of limits: the kernel's for the period, Docker's for memory.
const (
	defaultPeriod        = 100_000
	minPeriod, maxPeriod = 1000, 1_000_000
	minQuota             = 1000
	maxPercent           = 100_000
	minMemory            = 6 << 20
)

// mounted says which folder the container gets: the key's, or the one named path.
type mounted struct {
	byKey bool
	path  string
}

// UnmarshalJSON takes a boolean or a string.
func (m *mounted) UnmarshalJSON(raw []byte) error {
	*m = mounted{}
	if json.Unmarshal(raw, &m.byKey) == nil {
		return nil
	}
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &m.path) != nil || m.path == "" {
		return fmt.Errorf("got %.20s where mount wants true, false or the name of a folder", raw)
	}
	return nil
}

// MarshalJSON is the reverse.
func (m mounted) MarshalJSON() ([]byte, error) {
	if m.path != "" {
		return json.Marshal(m.path)
	}
	return json.Marshal(m.byKey)
}

// Pull policies.
const (
	ifNotPresent = "IfNotPresent"
	always       = "Always"
	never        = "Never"
)

const wanted = `want {"image": "name:tag", "env": {"NAME": "value"}, …}`

// parse reads an executable and checks what can be told from its text.
func parse(raw json.RawMessage) (command, error) {
	var c command
	if err := executable.Decode(raw, &c, wanted); err != nil {
		return c, err
	}
	size, err := executable.CheckEnv(c.Env)
	if err != nil {
		return c, err
	}
	if len(c.Env) > executable.MaxWords || size > executable.MaxBytes {
		return c, fmt.Errorf("executable: env has %d variables of %d bytes; at most %d of %d bytes are allowed",
			len(c.Env), size, executable.MaxWords, executable.MaxBytes)
	}
	if c.Image == "" {
		return c, fmt.Errorf("executable: image is empty; %s", wanted)
	}
	if c.ref, err = reference.ParseAnyReference(string(c.Image)); err != nil {
		return c, fmt.Errorf("executable: image %.200q: %w; give it as [registry/]name[:tag]", c.Image, err)
	}
	if named, ok := c.ref.(reference.Named); ok {
		c.ref = reference.TagNameOnly(named)
	}
	switch c.policy() {
	case ifNotPresent, always, never:
	default:
		return c, fmt.Errorf("executable: pull_policy %.80q is not known; give %s, %s or %s", c.policy(), ifNotPresent, always, never)
	}
	if c.Credentials != nil && (c.Credentials.Username == "" || c.Credentials.Password == "") {
		return c, errors.New("executable: credentials need a username and a password; give both, or no credentials")
	}
	if c.Mount != nil && c.Mount.path != "" {
		if err := checkFolder(c.Mount.path); err != nil {
			return c, err
		}
	}
	if err := c.checkNetwork(); err != nil {
		return c, err
	}
	return c, c.limits().check()
}

func (c command) policy() string {
	if c.PullPolicy == nil {
		return ifNotPresent
	}
	return string(*c.PullPolicy)
}

func (c command) limits() limits {
	if c.ResourceLimits == nil {
		return limits{}
	}
	return *c.ResourceLimits
}

// checkNetwork refuses what is no network of its own: the container would have the
// drone's network, another backend's, or none that its port could be published from.
func (c command) checkNetwork() error {
	if c.NetworkName == nil {
		return nil
	}
	name := string(*c.NetworkName)
	switch {
	case !networkName.MatchString(name):
		return fmt.Errorf("executable: network_name %.80q is not the name of a network; give one that `docker network ls` shows, or none", name)
	case name == "host" || name == "none":
		return fmt.Errorf("executable: network_name %q is not allowed: the backend could not be reached on a port of its own; give a bridge network, or none", name)
	}
	return nil
}

func (l limits) check() error {
	for _, limit := range []struct {
		name     string
		value    *int64
		min, max int64
	}{
		{"cpu_period", l.CPUPeriod, minPeriod, maxPeriod},
		{"cpu_period_percent", l.CPUPeriodPercent, 1, maxPercent},
		{"cpu_time_limit", l.CPUTimeLimit, 1, 1 << 31},
		{"memory_limit_bytes", l.MemoryLimitBytes, minMemory, 1 << 60},
		{"disk_limit_bytes", l.DiskLimitBytes, 1 << 20, 1 << 60},
	} {
		if v := limit.value; v != nil && (*v < limit.min || *v > limit.max) {
			return fmt.Errorf("executable: resource_limits.%s is %d; it must be %d to %d", limit.name, *v, limit.min, limit.max)
		}
	}
	if l.CPUPeriodPercent != nil && l.quota() < minQuota {
		return fmt.Errorf("executable: resource_limits: %d%% of a cpu_period of %d µs is under the kernel's least, %d µs; raise one of them",
			*l.CPUPeriodPercent, l.period(), minQuota)
	}
	return nil
}

// period is in µs.
func (l limits) period() int64 {
	if l.CPUPeriod == nil {
		return defaultPeriod
	}
	return *l.CPUPeriod
}

// quota is in µs per period; 0: no limit.
func (l limits) quota() int64 {
	if l.CPUPeriodPercent == nil {
		return 0
	}
	return l.period() * *l.CPUPeriodPercent / 100
}

// Demands is what the limits of an executable say.
func (r *Runtime) Demands(raw json.RawMessage) runtime.Demands {
	c, err := parse(raw)
	if err != nil {
		return runtime.Demands{}
	}
	var d runtime.Demands
	l := c.limits()
	if l.MemoryLimitBytes != nil {
		d.MemoryBytes = *l.MemoryLimitBytes
	}
	if l.CPUPeriodPercent != nil {
		d.CPUMillis = *l.CPUPeriodPercent * 10
	}
	return d
}

// WithoutSecrets is the executable without its credentials. Of one that cannot be
// read nothing is left, because nothing is known of it.
func (r *Runtime) WithoutSecrets(raw json.RawMessage) (safe json.RawMessage, had bool) {
	nothing := json.RawMessage("{}")
	c, err := parse(raw)
	if err != nil {
		return nothing, false
	}
	had = c.Credentials != nil
	c.Credentials = nil
	written, err := json.Marshal(c)
	if err != nil {
		return nothing, had
	}
	return written, had
}
