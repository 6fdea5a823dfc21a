//go:build mutants

package mutant

import "os"

var on = Name(os.Getenv(Env))

// On says whether the program has the bug.
func On(name Name) bool { return on == name }
