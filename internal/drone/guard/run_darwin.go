package guard

import (
	"context"
	"errors"
	"log/slog"
)

// post has no guard to start: see the package comment.
func (p *Post) post(ctx context.Context) (stood bool, err error) {
	p.log.WarnContext(ctx, "there is no guard on this system: an agent that dies leaves its backends")
	p.set(true)
	<-ctx.Done()
	return true, nil
}

// Run is for Linux only.
func Run(context.Context, *slog.Logger, string) error {
	return errors.New("there is no guard on this system, only on Linux")
}
