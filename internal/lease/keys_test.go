package lease_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/messages"
)

// keysOf reads a file of these lines.
func keysOf(t rapid.TB, lines ...string) *lease.Keys {
	t.Helper()
	keys := new(lease.Keys)
	if err := keys.Replace([]byte(strings.Join(lines, "\n"))); err != nil {
		t.Fatal(err)
	}
	return keys
}

// The demand: what is stored of a static token says nothing without the key that has sealed it, and opens as long as that key is in the file, wherever it
// stands there.
func TestStaticTokenOpensWithItsKeyAlone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		token := messages.StaticTokenPrefix + rapid.StringMatching(`[A-Za-z0-9_-]{43}`).Draw(t, "token")
		lines := make([]string, rapid.IntRange(1, 5).Draw(t, "keys"))
		for i := range lines {
			lines[i] = lease.NewKey()
		}
		stored, ok := keysOf(t, lines...).Seal(token)
		again, _ := keysOf(t, lines...).Seal(token)
		if !ok || strings.Contains(stored, token[2:12]) || stored == again {
			t.Fatalf("%q is stored as %q, and then as %q", token, stored, again)
		}
		later := rapid.Permutation(append(lines[:1:1], lease.NewKey(), "# a comment", "")).Draw(t, "the file later")
		if got, err := keysOf(t, later...).Open(stored); err != nil || got != token {
			t.Fatalf("%q opens as %q, %v", token, got, err)
		}
		// As earlier builds stored it.
		if got, err := new(lease.Keys).Open(token); err != nil || got != token {
			t.Fatalf("%q opens as %q, %v", token, got, err)
		}
		id := keysOf(t, lines[0]).IDs()[0]
		for _, keys := range []*lease.Keys{new(lease.Keys), keysOf(t, lease.NewKey())} {
			got, err := keys.Open(stored)
			if messages.KindOf(err) != messages.Unavailable || !strings.Contains(err.Error(), id) || !strings.Contains(err.Error(), "--token-key-file") || got != "" {
				t.Fatalf("without its key it opens as %q, %v", got, err)
			}
		}
		at := rapid.IntRange(len("k1.")+len(id)+1, len(stored)-2).Draw(t, "at")
		if got, err := keysOf(t, lines...).Open(stored[:at] + "~" + stored[at+1:]); err == nil {
			t.Fatalf("a damaged one opens as %q", got)
		}
	})
}

// The demand: a bad file of keys is refused with what is wrong and where, without the key, and those known before stay.
func TestBadFilesOfKeysAreRefused(t *testing.T) {
	t.Parallel()
	good := lease.NewKey()
	keys := keysOf(t, good)
	many := make([]string, lease.MaxKeys+1)
	for i := range many {
		many[i] = lease.NewKey()
	}
	for file, why := range map[string]string{
		"":                                 "there is no key in it",
		"# only this\n\n":                  "there is no key in it",
		good + "\nsecret":                  "line 2 is no key: one begins with jwtk0_",
		"\n" + good[:20]:                   "line 2 is no whole key: after jwtk0_ come 43 characters",
		good + "A":                         "line 1 is no whole key",
		good + "\r\n" + good + "\n":        "line 2 is the key of a line before",
		strings.Join(many, "\n"):           "more than 100 keys",
		"jwtk0_" + strings.Repeat("ü", 43): "line 1 is no whole key",
	} {
		err := keys.Replace([]byte(file))
		if err == nil || !strings.Contains(err.Error(), why) || strings.Contains(err.Error(), good[10:18]) {
			t.Errorf("%.60q is refused with %v, want %q", file, err, why)
		}
	}
	if ids := keys.IDs(); len(ids) != 1 || ids[0] != keysOf(t, good).IDs()[0] {
		t.Errorf("then the keys are %v", ids)
	}
}
