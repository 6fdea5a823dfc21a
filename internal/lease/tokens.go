package lease

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strings"
	"time"

	"github.com/jetway-project/jetway/messages"
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

// HashToken is what tokens are found by: of a dynamic one no more is stored.
func HashToken(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// sealed marks a secret that is stored such that only its token opens it.
const sealed = "x1."

// sealSecret is what is stored of a token's secret. Of the token only a hash is stored, and without the token itself the secret cannot be
// read: who reads the database has neither, and who has the token (the browser) does not read the database. It needs no
// key of its own. Each token is of one secret, so what hides it hides nothing else.
func sealSecret(token, secret string) string {
	raw, err := base64.RawURLEncoding.DecodeString(secret)
	if err != nil || len(raw) != tokenBytes {
		panic("lease: a secret that newTokens has not made")
	}
	return sealed + base64.RawURLEncoding.EncodeToString(hidden(token, raw))
}

// OpenSecret gives the secret of a token by what is stored of it. What an earlier build stored is the secret itself; of
// what nobody can have sealed with the token it gives "".
func OpenSecret(token, stored string) string {
	text, is := strings.CutPrefix(stored, sealed)
	if !is {
		return stored
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) != tokenBytes {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(hidden(token, raw))
}

// hidden is 32 bytes combined with what only the token's owner can compute; twice, they are themselves.
func hidden(token string, raw []byte) []byte {
	pad := hmac.New(sha256.New, []byte(token))
	_, _ = pad.Write([]byte("jetway secret token"))
	out := pad.Sum(nil)
	subtle.XORBytes(out, out, raw)
	return out
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
			Secret: sealSecret(b.tokens[i].token, b.tokens[i].secret), User: r.User, Auth: auth, LifeSeconds: b.cfg.tokenSeconds(r),
		}
	}
	return tokens
}

// staticToken gives what is stored of the static token of the backend that request i would get; nothing where it wants none.
func (b *batch) staticToken(i int, cfg *messages.SpawnConfig) (stored string, hash []byte, err error) {
	if !cfg.UseStaticToken {
		return "", nil, nil
	}
	token := messages.StaticTokenPrefix + b.tokens[i].token
	stored, ok := b.cfg.Keys.Seal(token)
	if !ok {
		return "", nil, errNoKey
	}
	return stored, HashToken(token), nil
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
