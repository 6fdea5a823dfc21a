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
	ResourceLimits *executable.Limits                  `json:"resource_limits,omitempty"`
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
	return c, c.ResourceLimits.Check()
}

func (c command) policy() string {
	if c.PullPolicy == nil {
		return ifNotPresent
	}
	return string(*c.PullPolicy)
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

// Demands is what the limits of an executable say.
func (r *Runtime) Demands(raw json.RawMessage) runtime.Demands {
	c, err := parse(raw)
	if err != nil {
		return runtime.Demands{}
	}
	return c.ResourceLimits.Demands()
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
