package cli

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/jetway-project/jetway/internal/lease"
)

// tokenKeyCmd is `jetway token-key`.
type tokenKeyCmd struct {
	File string `arg:"" optional:"" type:"path" help:"Add the key to this file, as its last line, instead of printing it. The file is made if there is none."`
}

// Run makes a key. At the end of a file with keys, the new key only opens what other workers seal with it; it seals once the operator moves it to
// the top. So all workers can be given a key before any of them uses it.
func (c *tokenKeyCmd) Run(r *run) error {
	key := lease.NewKey()
	if c.File == "" {
		r.printf("%s\n", key)
		return nil
	}
	if err := appendLine(c.File, key); err != nil {
		return badFile("FILE "+c.File, err)
	}
	var keys lease.Keys
	if err := readKeys(&keys, "FILE "+c.File, c.File, nil); err != nil {
		return err
	}
	ids := keys.IDs()
	r.printf("added the key %s to %s, which has %d\n", ids[len(ids)-1], c.File, len(ids))
	return nil
}

// tokenKeyFlags say with what static tokens are sealed.
type tokenKeyFlags struct {
	TokenKeyFile string `type:"path" placeholder:"FILE" help:"Keys that static tokens (use_static_token) are sealed with in the database, one a line, as the command token-key makes them: the first seals, all open. Give all workers the same; the file is read again when it changes. Without it, a connect that asks for a static token is refused."`
}

// keysEvery is the pause between two looks at the file of keys.
const keysEvery = 2 * time.Second

// readKeys takes the keys of a file. seen, if not nil, is the hash of the file as it was taken last: if the file is still the same, readKeys does
// nothing, otherwise it updates seen.
func readKeys(keys *lease.Keys, what, file string, seen *[sha256.Size]byte) error {
	data, err := readSecret(what, file)
	if err != nil {
		return err
	}
	defer wipe(data)
	sum := sha256.Sum256(data)
	if seen != nil && *seen == sum {
		return nil
	}
	if err := keys.Replace(data); err != nil {
		return fileFailure(what, err.Error(), "give a file as jetway token-key FILE makes it")
	}
	if seen != nil {
		*seen = sum
	}
	return nil
}

// keys reads the file, and reads it again when it has changed, whatever changed it, until stop is called.
func (f *tokenKeyFlags) keys(r *run) (keys *lease.Keys, stop func(), err error) {
	keys = new(lease.Keys)
	if f.TokenKeyFile == "" {
		return keys, func() {}, nil
	}
	what := "--token-key-file " + f.TokenKeyFile
	var seen [sha256.Size]byte
	if err := readKeys(keys, what, f.TokenKeyFile, &seen); err != nil {
		return nil, nil, err
	}
	r.log.Info("token keys read", "file", f.TokenKeyFile, "token_keys", keys.IDs())
	ctx, cancel := context.WithCancel(r.ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := r.ticker(keysEvery)
		defer tick.Stop()
		said := ""
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			before := seen
			switch err := readKeys(keys, what, f.TokenKeyFile, &seen); {
			case err == nil && seen != before:
				said = ""
				r.log.Info("token keys read", "file", f.TokenKeyFile, "token_keys", keys.IDs())
			case err == nil:
				said = ""
			case err.Error() != said:
				said = err.Error()
				r.log.Error("the file of token keys cannot be used, those known before stay", "err", err)
			}
		}
	})
	return keys, func() { cancel(); watching.Wait() }, nil
}
