package deployed

import (
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }
