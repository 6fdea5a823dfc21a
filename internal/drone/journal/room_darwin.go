package journal

import "os"

// allocate reserves nothing on this system: writing tells.
func allocate(*os.File, int64) error { return nil }
