package guard

import (
	"testing"

	"github.com/jetway-project/jetway/internal/drone/journal"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/messages"
)

// Two stacks on one host never touch each other's processes, whatever their drones and backends are called: the guard
// of one leaves alone what carries another cluster. What carries none, from an earlier build, goes by the names.
func TestGuardLeavesProcessesOfAnotherStackAlone(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	start := func(cluster ...string) watched {
		t.Helper()
		cmd := backendCommand(self(t), "b", droneOf(s.dir))
		for _, c := range cluster {
			cmd.Env = append(cmd.Env, runtime.EnvCluster+"="+c)
		}
		said := listen(t, cmd)
		return watch(t, said.number("pid"))
	}
	own, unnamed, others := start("a.test:80"), start(), start("b.test:80")
	if err := put(s.journal, "b", journal.State{Status: messages.Ready, Cluster: "a.test:80"}); err != nil {
		t.Fatal(err)
	}
	s.renew(500, 1000)
	s.lookUntilDone(1000)
	own.ends()
	unnamed.ends()
	others.lives()
}
