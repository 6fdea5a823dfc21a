package drone

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jetway-project/jetway/internal/drone/identity"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/fake"
)

// afar is a runtime that may be away.
type afar struct {
	runtime.Runtime
	why error
}

func (r *afar) Away() (<-chan struct{}, error) { return nil, r.why }

// The demand: a drone that starts has no guard for a moment, as an engine's restart takes one: that is no news. What lasts is said, once.
func TestDroneSaysThatItTakesNoBackendsOnlyWhereThatLasts(t *testing.T) {
	t.Parallel()
	rt := fake.New()
	defer rt.Close()
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		engine := &afar{rt, errors.New("no guard stands yet")}
		a := newAgent(Config{Name: "dr-a", Cluster: "a", Log: slog.New(slog.NewTextHandler(&said, nil))}.withDefaults(), &identity.Identity{}, nil, engine)
		beats := func(n int, why error) {
			engine.why = why
			for range n {
				if got := a.unable(t.Context()); (got != "") != (why != nil) {
					t.Errorf("the workers hear %q of %v", got, why)
				}
				time.Sleep(time.Second)
			}
		}
		beats(4, errors.New("no guard stands yet"))
		beats(2, nil)
		beats(4, errors.New("it has ended"))
		beats(1, nil)
		if said.Len() > 0 {
			t.Errorf("of what is over in a moment it says:\n%s", said.String())
		}
		beats(10, errors.New("no such program"))
		beats(2, nil)
		if warned, back := strings.Count(said.String(), "no backends are taken"), strings.Count(said.String(), "backends are taken again"); warned != 1 || back != 1 {
			t.Errorf("of what lasts it says:\n%s", said.String())
		}
	})
}
