package certs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/jetway-project/jetway/messages"
)

// storage is what proxies share: certmagic's files in a key-value bucket, and locks.
// Reading asks the server that has the bucket's last word, so that what one proxy has
// stored the others find.
type storage struct {
	nc  *nats.Conn
	kv  jetstream.KeyValue
	log *slog.Logger
	// renewEvery is how often a lock is written anew by who holds it, staleAfter for how
	// long who waits must have seen one revision of it until he takes it; try bounds each
	// word to the server about one.
	renewEvery, staleAfter, try time.Duration

	mu    sync.Mutex
	locks map[string]*lock // that this proxy holds
	held  int              // those, and what is being given back
	idle  chan struct{}    // closed when that is 0; another one each time
}

var _ certmagic.Storage = (*storage)(nil)

// openStorage waits until the bucket is there, which workers make, or ctx ends.
func openStorage(ctx context.Context, nc *nats.Conn, log *slog.Logger) (*storage, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	s := &storage{
		nc: nc, log: log, renewEvery: lockRenew, staleAfter: lockStale, try: lockTry,
		locks: make(map[string]*lock), idle: make(chan struct{}),
	}
	close(s.idle)
	return s, persist(ctx, func() error {
		s.kv, err = js.KeyValue(ctx, messages.BucketCerts)
		return err
	}, func(err error) {
		log.WarnContext(ctx, "cannot reach what proxies share of certificates, trying again: is a worker running?",
			"bucket", messages.BucketCerts, "err", err)
	})
}

// persist does what fails while the bus is away until it succeeds or ctx ends.
func persist(ctx context.Context, do func() error, notify func(error)) error {
	wait := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(100*time.Millisecond),
		backoff.WithMaxInterval(10*time.Second),
		backoff.WithMaxElapsedTime(0))
	return backoff.RetryNotify(func() error {
		err := do()
		if errors.Is(err, nats.ErrConnectionClosed) {
			return backoff.Permanent(err)
		}
		return err
	}, backoff.WithContext(wait, ctx), func(err error, _ time.Duration) { notify(err) })
}

// Store writes one file.
func (s *storage) Store(ctx context.Context, key string, value []byte) error {
	if _, err := s.kv.Put(ctx, encode(key), value); err != nil {
		return fmt.Errorf("store %s: %w", key, err)
	}
	return nil
}

// Load reads one file; fs.ErrNotExist: it is not there.
func (s *storage) Load(ctx context.Context, key string) ([]byte, error) {
	entry, err := s.get(ctx, key)
	if err != nil {
		return nil, err
	}
	return entry.Value(), nil
}

func (s *storage) get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	entry, err := s.kv.Get(ctx, encode(key))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, fmt.Errorf("load %s: %w", key, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", key, err)
	}
	return entry, nil
}

// Delete deletes a file, or all below a directory. What is not there is no error.
func (s *storage) Delete(ctx context.Context, key string) error {
	keys := []string{key}
	_, err := s.get(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		keys, err = s.List(ctx, key, true)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, key := range keys {
		if err := s.kv.Delete(ctx, encode(key)); err != nil {
			return fmt.Errorf("delete %s: %w", key, err)
		}
	}
	return nil
}

// Exists says whether a file or a directory is there. It cannot say that it does not
// know: a certificate that seems not to be there would be ordered, so it asks until
// it knows or ctx ends.
func (s *storage) Exists(ctx context.Context, key string) bool {
	var there bool
	err := persist(ctx, func() error {
		_, err := s.Stat(ctx, key)
		there = err == nil
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}, func(err error) {
		s.log.WarnContext(ctx, "cannot see what proxies share of certificates, trying again", "err", err)
	})
	return err == nil && there
}

// List gives what is in a directory: the files below it, or what is directly in it.
func (s *storage) List(ctx context.Context, dir string, recursive bool) ([]string, error) {
	files, err := s.files(ctx)
	if err != nil {
		return nil, err
	}
	var found []string
	seen := make(map[string]bool)
	for _, file := range files {
		rest, ok := strings.CutPrefix(file, dir+"/")
		if dir == "" {
			rest, ok = file, true
		}
		if !ok {
			continue
		}
		if name, _, _ := strings.Cut(rest, "/"); !recursive {
			rest = name
		}
		if !seen[rest] {
			seen[rest] = true
			found = append(found, path.Join(dir, rest))
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("list %s: %w", dir, fs.ErrNotExist)
	}
	return found, nil
}

// files gives all that were ever written. Whether one was deleted since, its own
// entry says: that costs a request each, and who lists reads them anyway.
func (s *storage) files(ctx context.Context) ([]string, error) {
	js, err := jetstream.New(s.nc)
	if err != nil {
		return nil, err
	}
	stream, err := js.Stream(ctx, messages.StreamCerts)
	if err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(messages.SubjectAllCerts))
	if err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	var files []string
	prefix := messages.CertsSubject("")
	for subject := range info.State.Subjects {
		key := decode(strings.TrimPrefix(subject, prefix))
		if strings.HasPrefix(key, lockPrefix) {
			continue
		}
		if _, err := s.get(ctx, key); err == nil {
			files = append(files, key)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return files, nil
}

// Stat describes a file or a directory.
func (s *storage) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	entry, err := s.get(ctx, key)
	if err == nil {
		return certmagic.KeyInfo{Key: key, Modified: entry.Created(), Size: int64(len(entry.Value())), IsTerminal: true}, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return certmagic.KeyInfo{}, err
	}
	if _, err := s.List(ctx, key, true); err != nil {
		return certmagic.KeyInfo{}, err
	}
	return certmagic.KeyInfo{Key: key}, nil
}

// encode makes a key of the bucket of a file's name, each of its own, readable where it can be.
func encode(name string) string {
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '/':
			b.WriteByte(c)
		case c == '.' && i > 0 && i < len(name)-1 && name[i-1] != '.':
			b.WriteByte(c) // parts of a subject must not be empty
		default:
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	return b.String()
}

// decode is the inverse of encode.
func decode(key string) string {
	var b strings.Builder
	for i := 0; i < len(key); i++ {
		if key[i] == '=' && i+2 < len(key) {
			if c, err := strconv.ParseUint(key[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(key[i])
	}
	return b.String()
}
