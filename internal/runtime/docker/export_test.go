package docker

import "time"

// LookEvery has ends whose word is lost be found sooner, in all tests of the package.
func LookEvery(every time.Duration) { lookEvery = every }
