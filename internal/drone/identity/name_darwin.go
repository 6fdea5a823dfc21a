package identity

import "io"

// nobody holds no name.
type nobody struct{}

func takeName(string, string) (io.Closer, error) { return nobody{}, nil }

func (nobody) Close() error { return nil }
