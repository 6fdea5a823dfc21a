package drone

// startOf is not needed without a guard.
func startOf(int) uint64 { return 0 }
