package process

import (
	"time"

	"github.com/jetway-project/jetway/internal/runtime"
)

// LastLook is when the runtime last looked at all processes of the machine.
func LastLook(r runtime.Runtime) time.Time { return r.(lasting).census.at }

// LandlockVersion is the kernel's.
func LandlockVersion() int { return findLandlock().version }
