package docker

import "time"

// LookEvery has ends whose word is lost be found sooner, in all tests of the package.
func LookEvery(every time.Duration) { lookEvery = every }

// Patient gives an engine so long for its word of an end, and for an answer, in all tests of the package.
func Patient(tell, ask time.Duration) { tellPatience, askTimeout = tell, ask }
