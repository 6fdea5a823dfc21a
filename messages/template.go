package messages

import (
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Limits of templates. What is kept for one pool fits one message, whole: a drone asks once.
const (
	// MaxTemplates is how many templates of one cluster and pool may keep spares. Their executables have
	// MaxExecutable bytes at most, together.
	MaxTemplates = 64
	// MaxAllTemplates is how many templates there may be, and MaxAllExecutables how many bytes their executables may have, together.
	MaxAllTemplates   = 1000
	MaxAllExecutables = 16 << 20
	// MaxSpares is how many spares each drone may keep of one template.
	MaxSpares = 1000
	// MaxSpareError is the most bytes of what a drone says of a template that does not run.
	MaxSpareError = 256
)

// Template is an executable with a name ([SubjectTemplatePut]). A connect names it instead of an executable, and drones
// may start spares of it ahead: instances without a key, which wait for a backend that they can be.
type Template struct {
	// Name has the form of a backend id.
	Name string `json:"name"`
	// Cluster and Pool are where its backends run and its spares wait; without a cluster it is the worker's default.
	Cluster string `json:"cluster,omitempty"`
	Pool    string `json:"pool,omitempty"`
	// Executable is read by the drone's runtime only. A JSON object.
	Executable json.RawMessage `json:"executable"`
	// LifetimeLimitSeconds and MaxIdleSeconds are those of connects that name the template and set none themselves.
	LifetimeLimitSeconds *int64 `json:"lifetime_limit_seconds,omitempty"`
	MaxIdleSeconds       *int64 `json:"max_idle_seconds,omitempty"`
	// Spares is how many of them each drone of the pool keeps: 0 to MaxSpares.
	Spares int `json:"spares,omitempty"`
	// ClaimPath is where a spare is told which backend it is from now on, by POST with a JSON object. It begins with "/"
	// and is needed where there are spares.
	ClaimPath string `json:"claim_path,omitempty"`
	// Revision is the workers' to set: of one counter for all templates, which rises with each change and each delete.
	// Given with a put, it is compared: the put is refused with TemplateChanged where the template has another one by now.
	Revision int64 `json:"revision,omitempty"`
}

// PutTemplateResponse says what became of a put.
type PutTemplateResponse struct {
	Revision int64 `json:"revision"`
	// Replaced is the revision of the template of that name that there was before; the same as Revision where nothing changed.
	Replaced int64 `json:"replaced,omitempty"`
	// Drones is how many there are of its cluster and pool, that are not lost.
	Drones int `json:"drones"`
}

// TemplateRequest names a template: to [SubjectTemplateGet] and [SubjectTemplateDelete].
type TemplateRequest struct {
	Name string `json:"name"`
	// Revision, given with a delete, is compared as that of a put.
	Revision int64 `json:"revision,omitempty"`
}

// TemplateInfo is a template, and how it fares on the drones that keep spares of it.
type TemplateInfo struct {
	Template
	ChangedAt time.Time `json:"changed_at"`
	// SparesReady and SparesStarting are those of all drones that are heard; Claims and Misses are counted since their
	// agents started.
	SparesReady    int   `json:"spares_ready,omitempty"`
	SparesStarting int   `json:"spares_starting,omitempty"`
	Claims         int64 `json:"claims,omitempty"`
	Misses         int64 `json:"misses,omitempty"`
	// Error is what one of the drones says of why it does not run.
	Error string `json:"error,omitempty"`
	// Drones are those that keep spares of it, MaxPage at most, those with an error first; MoreDrones says that there are more. In the
	// answer to [SubjectTemplateGet] alone.
	Drones     []TemplateDrone `json:"drones,omitempty"`
	MoreDrones bool            `json:"more_drones,omitempty"`
}

// TemplateDrone is what a drone said last of a template.
type TemplateDrone struct {
	Drone string `json:"drone"`
	SpareState
}

// ListTemplatesRequest lists templates by name.
type ListTemplatesRequest struct{ Page }

// ListTemplatesResponse is one page, as BackendsResponse.
type ListTemplatesResponse struct {
	Templates []TemplateInfo `json:"templates"`
	Next      string         `json:"next,omitempty"`
}

// TemplatesRequest is how a drone asks for the templates of its cluster and pool that keep spares
// ([SubjectDroneTemplates]), when it hears of another revision than it has.
type TemplatesRequest struct {
	Session string `json:"session"`
}

// TemplatesResponse has all of them, MaxTemplates at most. What it does not name has no spares any more.
type TemplatesResponse struct {
	// Revision is that of all templates, as in HeartbeatResponse.
	Revision  int64      `json:"revision"`
	Templates []Template `json:"templates"`
}

// SpawnTemplate is the template that a backend was asked for by, as it was when it was placed.
type SpawnTemplate struct {
	Name      string `json:"name"`
	Revision  int64  `json:"revision"`
	ClaimPath string `json:"claim_path,omitempty"`
}

// NameOf is the template's name; "" where there is none.
func (t *SpawnTemplate) NameOf() string {
	if t == nil {
		return ""
	}
	return t.Name
}

// SpareState is what a drone says of its spares of one template. Counts are at most 10^9.
type SpareState struct {
	Template string `json:"template"`
	// Revision is that of the template that the spares are of.
	Revision int64 `json:"revision"`
	Ready    int   `json:"ready"`
	Starting int   `json:"starting"`
	// Claims are the backends that got a spare, and Misses those that named the template and started cold, since the agent started.
	Claims int64 `json:"claims"`
	Misses int64 `json:"misses"`
	// Error is why the last spare died or did not start, for people: at most MaxSpareError bytes.
	Error string `json:"error,omitempty"`
}

// CheckTemplateName refuses what is not a template's name: it has the form of a backend id.
func CheckTemplateName(name string) error { return asError(checkID("template", name)) }

func (t *Template) validate() *Error {
	if err := checkID("name", t.Name); err != nil {
		return err
	}
	if t.Cluster != "" {
		if err := checkCluster("cluster", t.Cluster); err != nil {
			return err
		}
	}
	if err := checkText("pool", t.Pool, MaxName); err != nil {
		return err
	}
	if len(t.Executable) == 0 || string(t.Executable) == "null" {
		return badField("executable", "is missing")
	}
	if err := checkObject("executable", t.Executable, MaxExecutable); err != nil {
		return err
	}
	if err := checkSeconds("lifetime_limit_seconds", t.LifetimeLimitSeconds); err != nil {
		return err
	}
	if err := checkSeconds("max_idle_seconds", t.MaxIdleSeconds); err != nil {
		return err
	}
	if t.Spares < 0 || t.Spares > MaxSpares {
		return badField("spares", "must be 0 to %d", MaxSpares)
	}
	if t.Spares > 0 && t.ClaimPath == "" {
		return badField("claim_path", "is missing: a spare has to be told which backend it is; say where it takes a POST, such as /claim, or keep no spares")
	}
	if t.ClaimPath != "" {
		if err := checkClaimPath("claim_path", t.ClaimPath); err != nil {
			return err
		}
	}
	return checkRevision("revision", t.Revision)
}

// checkClaimPath: what can stand in a request line behind POST: a path, perhaps with a query.
func checkClaimPath(field, path string) *Error {
	ok := len(path) <= MaxName && strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "//")
	for i := 0; ok && i < len(path); i++ {
		ok = path[i] > ' ' && path[i] < 0x7f && path[i] != '#' && path[i] != '\\'
	}
	if ok {
		_, err := url.ParseRequestURI(path)
		ok = err == nil
	}
	if !ok {
		return badField(field, "must be a path such as /claim: it begins with one \"/\" and has at most %d characters that can stand in a URL", MaxName)
	}
	return nil
}

func checkRevision(field string, n int64) *Error {
	if n < 0 {
		return badField(field, "must not be negative")
	}
	return nil
}

func (r *TemplateRequest) validate() *Error {
	if err := checkID("name", r.Name); err != nil {
		return err
	}
	return checkRevision("revision", r.Revision)
}

func (r *ListTemplatesRequest) validate() *Error { return r.Page.validate() }

func (r *TemplatesRequest) validate() *Error { return checkSession("session", r.Session) }

func (t *SpawnTemplate) validate() *Error {
	if err := checkID("spawn.template.name", t.Name); err != nil {
		return err
	}
	if err := checkRevision("spawn.template.revision", t.Revision); err != nil {
		return err
	}
	if t.ClaimPath == "" {
		return nil
	}
	return checkClaimPath("spawn.template.claim_path", t.ClaimPath)
}

func checkSpares(spares []SpareState) *Error {
	if len(spares) > MaxTemplates {
		return badField("spares", "has %d entries, at most %d are allowed", len(spares), MaxTemplates)
	}
	for i := range spares {
		if err := spares[i].validate(); err != nil {
			err.Message = "spares[" + strconv.Itoa(i) + "]." + err.Message
			return err
		}
	}
	return nil
}

func (s *SpareState) validate() *Error {
	if err := checkID("template", s.Template); err != nil {
		return err
	}
	if err := checkRevision("revision", s.Revision); err != nil {
		return err
	}
	for _, count := range []struct {
		field string
		n     int64
	}{{"ready", int64(s.Ready)}, {"starting", int64(s.Starting)}, {"claims", s.Claims}, {"misses", s.Misses}} {
		if count.n < 0 || count.n > 1e9 {
			return badField(count.field, "must be 0 to 1000000000")
		}
	}
	return checkText("error", s.Error, MaxSpareError)
}
