package docker_test

import (
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/dockertest"
)

// onPodman names the tests that every engine has to pass.
const onPodman = "^(TestServesUntilTerminated|TestWhatTheProgramSees|TestDeafProgramIsKilled|TestEndsAtOnce|TestI1ChildrenEndWithTheContainer|" +
	"TestPausedContainersEnd|TestContainersSleep|TestI1GuardEndsPausedContainersByTheEngine|TestI1RestartedContainerIsRemoved|TestAdoptsWhatRuns|TestAdoptsWhatHasEnded|TestAdoptsWhatWasNeverStarted|TestOtherDronesContainers|TestOutputGoesOnAfterAdoption|" +
	"TestMemoryLimit|TestProcessorTimeLimit|TestUsage|TestMountOfTheKey|TestPullOfNothing|TestI1GuardEndsContainersByTheEngine|TestEndsElsewhereAreSeenOnceTheEngineAnswers|TestI1StartWithoutAnAnswerLeavesNothing)$"

// The demand: Podman, rootful and rootless, is a tested runtime. What Docker passes in the tests
// above, Podman passes: these run them once more, in a process and a network of their own, as the
// user whose Podman it is.
func TestPodmanRootful(t *testing.T) { passOn(t, "root") }

func TestPodmanRootless(t *testing.T) { passOn(t, "nobody") }

func passOn(t *testing.T, as string) {
	t.Helper()
	testkit.Long(t)
	if _, err := program("odd"); err != nil { // it is built once, and found by the environment
		t.Fatal(err)
	}
	dockertest.OnPodman(t, as, onPodman)
}
