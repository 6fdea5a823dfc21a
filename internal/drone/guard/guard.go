package guard

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/jetway-project/jetway/internal/boottime"
	"github.com/jetway-project/jetway/internal/drone/journal"
)

const (
	noteName = "guard"
	// freshFor is how long a guard's word that it stands is believed.
	freshFor = 10 * time.Second
)

// note is what a guard says of itself once a second.
type note struct {
	Boot  string `json:"boot"`
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
	AtMS  int64  `json:"at_ms"`
	// Trouble is why it could not end what it guards; "" if it could.
	Trouble string `json:"trouble,omitempty"`
}

// maxTrouble bounds its text, in bytes.
const maxTrouble = 400

func readNote(dir string) (n note, err error) {
	err = journal.ReadNote(filepath.Join(dir, noteName), &n)
	return n, err
}

func (n note) fresh(now time.Duration) bool {
	return now-time.Duration(n.AtMS)*time.Millisecond < freshFor
}

// Ender ends backends where signals may not, or do not reach: the engine of containers, or the server
// of a runtime of one's own.
type Ender interface {
	// End ends what runs of a drone's backends, and says of which something did when it looked. clusters are those that the backends, by
	// id, were started in; "": any. It has missed nothing only if err is nil.
	End(ctx context.Context, drone string, clusters map[string]string) (left []string, err error)
	// Able says why it could not end anything now; nil if it could.
	Able(ctx context.Context) error
}

// Config says what a guard guards. Dir has no default.
type Config struct {
	// Dir is the drone's data directory.
	Dir string
	// Engine is asked to end containers, too; nil: there are none.
	Engine Ender
	// Afar says that no signal may reach what the engine runs, whatever this process may do.
	Afar bool
	// Agent, if set, ends when the agent does that started this guard: it is not needed for ever.
	Agent io.Reader
	// Looked is called, if set, after each look; it must not wait.
	Looked func()
	// Clock is the time that leases are judged by; boottime.Now by default.
	Clock boottime.Clock
	// Log is silent by default.
	Log *slog.Logger
}
