package worker

import (
	"context"
	"slices"
	"strings"
)

// sealTokens seals static tokens that workers of an earlier build have stored as they are. It waits until all workers know the key: one
// that does not would find the visitors of such a backend no more.
func (w *worker) sealTokens(ctx context.Context) error {
	keys := w.cfg.Keys.IDs()
	if len(keys) == 0 {
		return nil
	}
	tokens, err := w.store.OpenTokens(ctx)
	if err != nil || len(tokens) == 0 {
		return err
	}
	all, err := w.others(ctx)
	if err != nil {
		return err
	}
	for _, worker := range all {
		if !slices.Contains(strings.Split(worker.Metadata["token_keys"], ","), keys[0]) {
			if w.sealWaitsFor == worker.Metadata["worker"] {
				return nil
			}
			w.sealWaitsFor = worker.Metadata["worker"]
			w.log.Info("static tokens that an earlier build has stored as they are wait until all workers have this one's key",
				"other", worker.Metadata["worker"], "token_key", keys[0], "tokens", len(tokens))
			return nil
		}
	}
	for i := range tokens {
		stored, ok := w.cfg.Keys.Seal(tokens[i].Token)
		if !ok {
			return nil
		}
		tokens[i].Stored = stored
	}
	sealed, err := w.store.SealTokens(ctx, tokens)
	if sealed > 0 {
		w.log.Info("sealed static tokens that an earlier build had stored as they are", "tokens", sealed)
	}
	return err
}
