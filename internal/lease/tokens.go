package lease

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"time"
)

// tokenPair is a request's connection token and the secret shared with the backend.
type tokenPair struct{ token, secret string }

const tokenBytes = 32

// newTokens makes n pairs from one read of the system's randomness.
func newTokens(n int) []tokenPair {
	raw := make([]byte, 2*n*tokenBytes)
	_, _ = rand.Read(raw) // never fails (crypto/rand)
	pairs := make([]tokenPair, n)
	take := func() string {
		s := base64.RawURLEncoding.EncodeToString(raw[:tokenBytes])
		raw = raw[tokenBytes:]
		return s
	}
	for i := range pairs {
		pairs[i] = tokenPair{take(), take()}
	}
	return pairs
}

// HashToken is what is stored of a dynamic token.
func HashToken(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// tokenRows are the tokens to be written for a group, whoever's backend it gets.
func (b *batch) tokenRows(g *group) []Token {
	tokens := make([]Token, len(g.members))
	for n, i := range g.members {
		r := &b.reqs[i]
		auth := []byte(r.Auth)
		if len(auth) == 0 || string(auth) == "null" {
			auth = []byte("{}")
		}
		tokens[n] = Token{
			Tag: spawnTag(r.Key), Hash: HashToken(b.tokens[i].token),
			Secret: b.tokens[i].secret, User: r.User, Auth: auth, LifeSeconds: b.cfg.tokenSeconds(r),
		}
	}
	return tokens
}

func (c *Config) tokenSeconds(r *Request) int64 {
	if r.TokenLifetimeSeconds != nil {
		return *r.TokenLifetimeSeconds
	}
	return int64(c.TokenLifetime / time.Second)
}

const alphabet = "0123456789abcdefghijklmnopqrstuvwxyz"

// randomName gives n characters of a-z 0-9, without a bias worth mentioning.
func randomName(n int) string {
	raw := make([]byte, 2*n)
	_, _ = rand.Read(raw)
	name := make([]byte, n)
	for i := range name {
		name[i] = alphabet[(int(raw[2*i])<<8|int(raw[2*i+1]))%len(alphabet)]
	}
	return string(name)
}

// newBackendID gives 14 characters: 8 that rise with the time, 6 random ones. New
// ids lie together at the end of every index that holds them, which then stays
// quick however many backends there were. They are no secrets.
func newBackendID(now time.Time) string {
	const timed = 8 // base 36 milliseconds, until the year 2059
	id := make([]byte, timed, 14)
	ms := now.UnixMilli()
	for i := timed - 1; i >= 0; i-- {
		id[i] = alphabet[ms%36]
		ms /= 36
	}
	return string(append(id, randomName(6)...))
}
