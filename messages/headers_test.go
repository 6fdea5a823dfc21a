package messages_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/jetway-project/jetway/messages"
)

func TestHeaderJSON(t *testing.T) {
	for raw, want := range map[string]string{
		"": "", "null": "", "{broken": "",
		"{ \"a\" :\n 1 }":        `{"a":1}`,
		`{"name":"Zoë 🐻\u0000"}`: `{"name":"Zo\u00eb \ud83d\udc3b\u0000"}`,
		"{\"a\":\"\x7f\"}":       `{"a":"\u007f"}`,
	} {
		if got := messages.HeaderJSON([]byte(raw)); got != want {
			t.Errorf("%q is sent as %q, want %q", raw, got, want)
		}
	}
}

// The demand: what a backend reads of a user is unambiguous, and the same in every language: ASCII that no server
// trims, which undoing percent signs makes the name again.
func TestHeaderUser(t *testing.T) {
	for user, want := range map[string]string{
		"": "", "ada": "ada", "ada lovelace@example.com+x": "ada lovelace@example.com+x", "100%": "100%25", "Zoë": "Zo%C3%AB", "\u00a0ada": "%C2%A0ada",
	} {
		if got := messages.HeaderUser(user); got != want {
			t.Errorf("%q is sent as %q, want %q", user, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		user := rapid.String().Draw(t, "user")
		header := messages.HeaderUser(user)
		if strings.ContainsFunc(header, func(c rune) bool { return c < ' ' || c > '~' }) {
			t.Fatalf("%q is sent as %q", user, header)
		}
		if back, err := url.PathUnescape(header); err != nil || back != user {
			t.Fatalf("%q is sent as %q and read as %q: %v", user, header, back, err)
		}
	})
}

func TestUsersThatServersWouldChangeAreRefused(t *testing.T) {
	for user, fits := range map[string]bool{"admin": true, " admin": false, "admin ": false, " ": false, "a b": true, "\tadmin": false} {
		_, err := messages.Decode[messages.ConnectRequest](messages.Encode(messages.ConnectRequest{User: user}))
		if (err == nil) != fits || err != nil && !strings.HasPrefix(err.Error(), "BadRequest: user") {
			t.Errorf("%q: %v", user, err)
		}
	}
}

// The demand: nothing that a connect says is silently dropped: what cannot be told of a token that all share is refused.
func TestStaticTokensTellNobodyApart(t *testing.T) {
	for fields, wrong := range map[string]string{
		`"user":"ada"`: "user", `"auth":{"a":1}`: "auth", `"token_lifetime_seconds":60`: "token_lifetime_seconds",
		`"user":"","auth":{ }`: "", `"auth":null`: "",
	} {
		spawn := `{"spawn_config":{"executable":{},"use_static_token":%},` + fields + `}`
		_, err := messages.Decode[messages.ConnectRequest]([]byte(strings.Replace(spawn, "%", "true", 1)))
		if wrong == "" && err != nil || wrong != "" && (err == nil || !strings.HasPrefix(err.Error(), "BadRequest: "+wrong+": ")) {
			t.Errorf("%s: %v", fields, err)
		}
		if _, err := messages.Decode[messages.ConnectRequest]([]byte(strings.Replace(spawn, "%", "false", 1))); err != nil {
			t.Errorf("%s with a token of one's own: %v", fields, err)
		}
	}
}

func TestUserDataThatServersRefuseIsRefused(t *testing.T) {
	text := func(s string, n int) json.RawMessage { return json.RawMessage(`{"a":"` + strings.Repeat(s, n) + `"}`) }
	for _, c := range []struct {
		auth json.RawMessage
		fits bool
	}{
		{nil, true},
		{text("x", 600), true},
		{text("x", messages.MaxUserData-8), true},
		{text("x", messages.MaxUserData-7), false},
		{text("ж", 600), true},
		{text("ж", 700), false},
		{text("🐻", 400), false},
	} {
		err := messages.CheckUserData(c.auth, messages.MaxUserData)
		if (err == nil) != c.fits || err != nil && !strings.Contains(err.Error(), "--max-user-data") {
			t.Errorf("%d bytes, %d as a header: %v", len(c.auth), len(messages.HeaderJSON(c.auth)), err)
		}
	}
}
