package certs

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/nats-io/nats.go"
)

const (
	// quiet is how long after a change files are read: their two are written one after
	// the other.
	quiet = 100 * time.Millisecond
	// settle is after how long what makes no pair is looked at once more, before it
	// is called bad.
	settle = 2 * time.Second
	// lookEvery is how often files are read for which no change was reported, as on
	// file systems that report none.
	lookEvery = time.Minute
)

// files are a certificate and its key that somebody else renews.
type files struct {
	cert, key string
	settle    time.Duration
	log       *slog.Logger
	current   atomic.Pointer[tls.Certificate]

	// Of run alone.
	loaded, doubted, refused [sha256.Size]byte // what was read: taken, bad once, said to be bad
}

func openFiles(cfg *Config) (*files, error) {
	f := &files{cert: cfg.CertFile, key: cfg.KeyFile, settle: cfg.settle, log: cfg.Log}
	pair, sum, err := f.read()
	if err != nil {
		return nil, err
	}
	f.loaded = sum
	f.current.Store(pair)
	return f, nil
}

func (f *files) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return f.current.Load(), nil
}

func (f *files) list() []Certificate { return []Certificate{describe(f.current.Load())} }

func (f *files) challenged(http.ResponseWriter, *http.Request) bool { return false }

// read gives the pair that the files are now, and a sum by which to know them, also
// when they are bad.
func (f *files) read() (*tls.Certificate, [sha256.Size]byte, error) {
	cert, certErr := os.ReadFile(f.cert)
	key, keyErr := os.ReadFile(f.key)
	err := errors.Join(certErr, keyErr)
	sum := sha256.Sum256(fmt.Append(nil, sha256.Sum256(cert), sha256.Sum256(key), err))
	if err != nil {
		return nil, sum, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, sum, fmt.Errorf("%s and %s are no certificate and its key: %w", f.cert, f.key, err)
	}
	return &pair, sum, nil
}

// run reads the files again whenever they change.
func (f *files) run(ctx context.Context, _ *nats.Conn) {
	var changes <-chan fsnotify.Event
	var failures <-chan error
	watch := func() {}
	if watcher, err := fsnotify.NewWatcher(); err != nil {
		f.log.WarnContext(ctx, "cannot watch the certificate's files, looking at them every minute", "err", err)
	} else {
		defer func() { _ = watcher.Close() }()
		changes, failures = watcher.Events, watcher.Errors
		watch = func() {
			// Not the files: they are replaced, by a rename or by a link that leads elsewhere.
			for _, dir := range []string{filepath.Dir(f.cert), filepath.Dir(f.key)} {
				if err := watcher.Add(dir); err != nil {
					f.log.DebugContext(ctx, "cannot watch a directory", "dir", dir, "err", err)
				}
			}
		}
	}
	watch()
	again := time.NewTimer(0) // what changed before it was watched
	defer again.Stop()
	due := true
	soon := func() {
		if !due { // in a directory where much goes on it would never be
			again.Reset(quiet)
			due = true
		}
	}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changes:
			soon()
		case err := <-failures:
			f.log.DebugContext(ctx, "the watcher of the certificate's files reports", "err", err)
			soon()
		case <-look.C:
			watch() // a directory may be another one than it was
			soon()
		case <-again.C:
			if due = f.reload(ctx); due {
				again.Reset(f.settle)
			}
		}
	}
}

// reload takes the files if they are another pair than before, and a good one. It
// says whether they should be looked at once more soon.
func (f *files) reload(ctx context.Context) (doubtful bool) {
	pair, sum, err := f.read()
	old := f.current.Load()
	if err == nil && !time.Now().Before(pair.Leaf.NotAfter) && time.Now().Before(old.Leaf.NotAfter) {
		err = fmt.Errorf("%s has ended at %s", f.cert, pair.Leaf.NotAfter.Format(time.RFC3339))
	}
	switch {
	case sum == f.loaded, sum == f.refused:
		f.doubted = [sha256.Size]byte{}
		if sum == f.loaded {
			f.refused = f.doubted // the same mistake would be another one
		}
	case err == nil:
		f.loaded, f.refused, f.doubted = sum, [sha256.Size]byte{}, [sha256.Size]byte{}
		f.current.Store(pair)
		now := describe(pair)
		f.log.InfoContext(ctx, "took the new certificate", "name", now.Name, "until", now.Until, "file", f.cert)
	case sum != f.doubted:
		f.doubted = sum
		return true
	default:
		f.refused = sum
		f.log.ErrorContext(ctx, "cannot take the new certificate, the old one goes on", "until", old.Leaf.NotAfter, "err", err)
	}
	return false
}

func describe(cert *tls.Certificate) Certificate {
	leaf := cert.Leaf
	c := Certificate{Name: leaf.Subject.CommonName, From: leaf.NotBefore, Until: leaf.NotAfter}
	if len(leaf.DNSNames) > 0 {
		c.Name = leaf.DNSNames[0]
	}
	return c
}
