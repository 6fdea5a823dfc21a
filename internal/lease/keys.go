package lease

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/jetway-project/jetway/messages"
)

const (
	// keyPrefix begins every key, so that a reader, or a scanner for secrets, knows one.
	keyPrefix = "jwtk0_"
	// sealedStatic begins what is stored of a static token.
	sealedStatic = "k1."
	// MaxKeys bounds the keys of one file.
	MaxKeys = 100
)

// Keys seal static tokens. Whoever joins a backend with a static token is given the same one, so it must be read again from what the database
// holds. The workers have the keys and the database has not: who reads the database, or a dump of it, cannot visit.
//
// The first key seals, and each opens what it has sealed: so keys can be replaced one after the other. What is sealed
// hangs on nothing but the key: it can go with a lease's row from one backend to the next.
//
// The zero value has no keys. Keys may be used by several goroutines, also while they are replaced.
type Keys struct{ set atomic.Pointer[keySet] }

type keySet struct {
	ids  []string // in the order of the file
	byID map[string]cipher.AEAD
}

// NewKey makes the line of a new key.
func NewKey() string {
	raw := make([]byte, tokenBytes)
	_, _ = rand.Read(raw) // never fails (crypto/rand)
	return keyPrefix + base64.RawURLEncoding.EncodeToString(raw)
}

// Replace takes the keys of a file: one a line, the newest first; # begins a comment. After an error they are those of before. No error says
// what a key is.
func (k *Keys) Replace(file []byte) error {
	set := &keySet{byID: make(map[string]cipher.AEAD)}
	n := 0
	for line := range bytes.Lines(file) {
		n++
		if line = bytes.TrimSpace(line); len(line) == 0 || line[0] == '#' {
			continue
		}
		text, is := bytes.CutPrefix(line, []byte(keyPrefix))
		if !is {
			return fmt.Errorf("line %d is no key: one begins with %s", n, keyPrefix)
		}
		raw, err := base64.RawURLEncoding.Strict().DecodeString(string(text))
		if err != nil || len(raw) != tokenBytes {
			return fmt.Errorf("line %d is no whole key: after %s come 43 characters of A-Z a-z 0-9 - _", n, keyPrefix)
		}
		id := keyID(raw)
		if set.byID[id] != nil {
			return fmt.Errorf("line %d is the key of a line before", n)
		}
		if len(set.ids) == MaxKeys {
			return fmt.Errorf("there are more than %d keys", MaxKeys)
		}
		block, err := aes.NewCipher(raw)
		if err != nil {
			return err
		}
		if set.byID[id], err = cipher.NewGCMWithRandomNonce(block); err != nil {
			return err
		}
		set.ids = append(set.ids, id)
	}
	if len(set.ids) == 0 {
		return errors.New("there is no key in it")
	}
	k.set.Store(set)
	return nil
}

// keyID names a key, to whomever: nobody finds 32 random bytes by it.
func keyID(raw []byte) string {
	sum := sha256.Sum256(append([]byte("jetway token key "), raw...))
	return hex.EncodeToString(sum[:4])
}

// IDs name the keys, in their order.
func (k *Keys) IDs() []string {
	if set := k.set.Load(); set != nil {
		return set.ids
	}
	return nil
}

// Seal gives what is stored of a static token. It is false without a key.
func (k *Keys) Seal(token string) (stored string, ok bool) {
	set := k.set.Load()
	if set == nil {
		return "", false
	}
	id := set.ids[0]
	return sealedStatic + id + "." + base64.RawURLEncoding.EncodeToString(set.byID[id].Seal(nil, nil, []byte(token), nil)), true //nolint:gosec // the cipher draws its nonces itself
}

// Open gives a static token by what is stored of it. What an earlier build stored is the token itself. Its error is of kind Unavailable where
// the key is missing.
func (k *Keys) Open(stored string) (token string, err error) {
	if strings.HasPrefix(stored, messages.StaticTokenPrefix) {
		return stored, nil
	}
	text, is := strings.CutPrefix(stored, sealedStatic)
	id, text, cut := strings.Cut(text, ".")
	if !is || !cut {
		return "", fmt.Errorf("a static token is stored in a form that this build does not know (%.3s…)", stored)
	}
	var aead cipher.AEAD
	if set := k.set.Load(); set != nil {
		aead = set.byID[id]
	}
	if aead == nil {
		return "", messages.Errorf(messages.Unavailable,
			"the backend's static token was sealed with the key %s, which this worker does not have: give all workers the same --token-key-file, with that key in it", id)
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		raw, err = aead.Open(nil, nil, raw, nil)
	}
	if err != nil {
		return "", fmt.Errorf("open a static token that the key %s has sealed: %w", id, err)
	}
	return string(raw), nil
}

var errNoKey = messages.Errorf(messages.BadRequest, "spawn_config.use_static_token: the worker has no key to seal a static token with, and stores none as it is: "+
	"give all workers the same --token-key-file, which the command token-key makes, or leave use_static_token out")
