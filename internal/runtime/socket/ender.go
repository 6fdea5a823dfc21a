package socket

import (
	"context"
	"maps"
	"slices"
)

// Ender ends backends for who guards a drone, beside its agent. It needs no closing.
type Ender struct{ client *client }

// NewEnder makes one for the server at a socket. It does not ask it anything yet.
func NewEnder(path string) (*Ender, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	return &Ender{newClient(path)}, nil
}

// Able says why the server could not be asked to end a backend now; nil if it could: it is asked to
// end none, in the same way.
func (e *Ender) Able(ctx context.Context) error {
	_, err := e.client.terminate(ctx, "", true)
	return err
}

// End ends backends of a drone, and gives those that ran.
func (e *Ender) End(ctx context.Context, drone string, clusters map[string]string) (left []string, err error) {
	return e.client.terminate(ctx, drone, true, slices.Sorted(maps.Keys(clusters))...)
}
