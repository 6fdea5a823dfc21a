package gateway

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/jetway-project/jetway/messages"
)

// The scopes of a token.
const (
	ScopeConnect = "connect" // connect, revoke
	ScopeRead    = "read"    // status, listings, streams, the page
	ScopeOperate = "operate" // terminate, sleep, wake, drain, undrain, retry
	// ScopeTemplates is one of its own: who puts a template says what drones run, and who gets one reads what is in it.
	ScopeTemplates = "templates"
)

// Scopes are all of them.
var Scopes = []string{ScopeConnect, ScopeRead, ScopeOperate, ScopeTemplates}

// tokenPrefix begins every token, so that scanners for secrets know one.
const tokenPrefix = "jwt0_"

// Token is one line of the file of tokens: who has the token with this hash, and may what.
type Token struct {
	// Name is shown in the log; of one line only.
	Name string `json:"name"`
	// SHA256 is the token's hash, in hexadecimal digits. A token is 32 random bytes: it needs no slow hash.
	SHA256 string   `json:"sha256"`
	Scopes []string `json:"scopes"`
	// Namespaces are those that it is for; none: all, and the drones, which belong to nobody.
	Namespaces []string `json:"namespaces,omitempty"`
	// RequestsPerSecond is how many it may make; 0: what the gateway says.
	RequestsPerSecond float64 `json:"requests_per_second,omitempty"`
}

// NewToken makes a token and its line.
func NewToken(line Token) (token string, _ Token, err error) {
	var random [32]byte
	_, _ = rand.Read(random[:]) // never fails
	token = tokenPrefix + base64.RawURLEncoding.EncodeToString(random[:])
	line.SHA256 = hashOf(token)
	return token, line, line.validate()
}

func hashOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

func (t *Token) validate() error {
	if t.Name == "" || len(t.Name) > messages.MaxName || strings.ContainsFunc(t.Name, func(r rune) bool { return r < ' ' }) {
		return errors.New("name: must be there, without control characters")
	}
	if sum, err := hex.DecodeString(t.SHA256); err != nil || len(sum) != sha256.Size {
		return errors.New("sha256: must be 64 hexadecimal digits")
	}
	if len(t.Scopes) == 0 {
		return fmt.Errorf("scopes: must name some of %s", strings.Join(Scopes, ", "))
	}
	for _, s := range t.Scopes {
		if !slices.Contains(Scopes, s) {
			return fmt.Errorf("scopes: there is %s, and no %q", strings.Join(Scopes, ", "), s)
		}
	}
	if t.Namespaces != nil && len(t.Namespaces) == 0 {
		return errors.New("namespaces: are for nothing; leave it out for all of them")
	}
	for _, ns := range t.Namespaces {
		if len(ns) > messages.MaxName {
			return fmt.Errorf("namespaces: %.40q… is longer than %d bytes", ns, messages.MaxName)
		}
	}
	if t.RequestsPerSecond < 0 {
		return errors.New("requests_per_second: must not be negative")
	}
	return nil
}

// who is somebody who asks, and what he may.
type who struct {
	name       string
	hash       string // "" of one without a token
	scopes     []string
	namespaces []string // nil: all
	limit      *rate.Limiter
}

// everybody is who asks a gateway that asks for no token.
func everybody() *who { return &who{scopes: Scopes} }

func (w *who) sees(namespace string) bool {
	return w.namespaces == nil || slices.Contains(w.namespaces, namespace)
}

// readTokens reads a file: one JSON object a line; # begins a comment.
func readTokens(data []byte, perSecond float64) (map[string]*who, error) {
	known := make(map[string]*who)
	names := make(map[string]bool)
	n := 0
	for line := range bytes.Lines(data) {
		n++
		if line = bytes.TrimSpace(line); len(line) == 0 || line[0] == '#' {
			continue
		}
		var t Token
		err := messages.ReadJSON(line, &t, true) // a scope or namespace that stands twice must not be the last one
		if wrong, ok := errors.AsType[*messages.Error](err); ok {
			err = errors.New(wrong.Message)
		}
		if err == nil {
			err = t.validate()
		}
		if err == nil && names[t.Name] {
			err = fmt.Errorf("name: %q is in a line before, too", t.Name)
		}
		hash := strings.ToLower(t.SHA256)
		if err == nil && known[hash] != nil {
			err = errors.New("sha256: is in a line before, too")
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		names[t.Name] = true
		perSecond := perSecond
		if t.RequestsPerSecond > 0 {
			perSecond = t.RequestsPerSecond
		}
		known[hash] = &who{
			name: t.Name, hash: hash, scopes: t.Scopes, namespaces: t.Namespaces,
			limit: rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond))),
		}
	}
	return known, nil
}

// same says that two lines allow the same.
func (w *who) same(other *who) bool {
	return other != nil && w.name == other.name && slices.Equal(w.scopes, other.scopes) &&
		(w.namespaces == nil) == (other.namespaces == nil) && slices.Equal(w.namespaces, other.namespaces) && w.limit.Limit() == other.limit.Limit()
}

// loadTokens reads the file, and has what is the same go on as it is.
func (g *Gateway) loadTokens() error {
	data, err := os.ReadFile(g.cfg.TokensFile)
	if err != nil {
		return err
	}
	again := g.tokens.Load() != nil
	if again && bytes.Equal(data, g.tokensRead) {
		return nil
	}
	// Who writes it empties it first, perhaps, and may be slow: it counts once it is found the same twice, and while it is empty never.
	if again && !bytes.Equal(data, g.tokensSeen) {
		g.tokensSeen = data
		return nil
	}
	if again && len(data) == 0 {
		return fmt.Errorf("%s: is empty; for nobody to have a token write one line that begins with #", g.cfg.TokensFile)
	}
	g.tokensRead = data // also of a bad one: it is said once
	known, err := readTokens(data, g.cfg.Rate)
	if err != nil {
		return fmt.Errorf("%s: %w", g.cfg.TokensFile, err)
	}
	if before := g.tokens.Load(); before != nil {
		for hash, old := range *before {
			if old.same(known[hash]) {
				known[hash] = old
			}
		}
	}
	g.tokens.Store(&known)
	// Who may no more hears no more.
	g.hub.cutWhere(func(w *who) bool { return w.hash != "" && known[w.hash] != w })
	g.log.Info("tokens read", "file", g.cfg.TokensFile, "tokens", len(known))
	return nil
}

// watchTokens reads the file again when it has changed, whatever changed it: an editor, a link put in its place.
func (g *Gateway) watchTokens(ctx context.Context) {
	tick := time.NewTicker(g.cfg.waits.reload)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := g.loadTokens()
		if err == nil {
			said = ""
		} else if err.Error() != said {
			said = err.Error()
			g.log.Error("the file of tokens cannot be used, those known before stay", "err", err)
		}
	}
}
