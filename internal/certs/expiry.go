package certs

import (
	"context"
	"time"
)

// expiryEvery is how often the log could say that a certificate is about to end.
const expiryEvery = time.Hour

// watchExpiry says in the log, once a day each, which certificates should have been
// renewed by now. Authorities' are renewed when a third of their life is left.
func (k *Keeper) watchExpiry(ctx context.Context) {
	tick := time.NewTicker(expiryEvery)
	defer tick.Stop()
	said := make(map[string]time.Time)
	for {
		now := time.Now()
		for _, c := range k.source.list() {
			left := c.Until.Sub(now)
			if left > c.Until.Sub(c.From)/6 || now.Sub(said[c.Name]) < 24*time.Hour {
				continue
			}
			said[c.Name] = now
			if left > 0 {
				k.cfg.Log.WarnContext(ctx, "a certificate ends soon and is not renewed", "name", c.Name, "until", c.Until)
			} else {
				k.cfg.Log.ErrorContext(ctx, "a certificate has ended and is not renewed: browsers refuse it", "name", c.Name, "until", c.Until)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
