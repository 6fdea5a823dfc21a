package lease

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The demand: who reads the database cannot visit, nor speak as a token's owner: a secret opens with its token alone.
func TestSecretOpensWithItsTokenAlone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		pairs := newTokens(2)
		own, other := pairs[0], pairs[1]
		stored := sealSecret(own.token, own.secret)
		if strings.Contains(stored, own.secret) || OpenSecret(other.token, stored) == own.secret {
			t.Fatalf("%q is stored as %q", own.secret, stored)
		}
		if got := OpenSecret(own.token, stored); got != own.secret {
			t.Fatalf("%q is opened as %q", own.secret, got)
		}
		// As earlier builds stored it.
		if got := OpenSecret(own.token, own.secret); got != own.secret {
			t.Fatalf("%q is opened as %q", own.secret, got)
		}
		if broken := sealed + rapid.StringMatching(`[A-Za-z0-9_-]{0,40}`).Draw(t, "broken"); OpenSecret(own.token, broken) != "" {
			t.Fatalf("%q opens", broken)
		}
	})
}
