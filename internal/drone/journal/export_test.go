package journal

import (
	"encoding/json"
)

// Line is some JSON as a line of the file.
func Line(text string) []byte { return line(json.RawMessage(text)) }

// Compact writes the file anew.
func (j *Journal) Compact() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.compact()
}

// CompactFrom is the size from which that is done.
const CompactFrom = compactFrom
