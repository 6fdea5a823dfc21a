package bus

import (
	"errors"
	"net"
	"net/url"
	"regexp"
	"strings"

	"github.com/nats-io/nats.go"
)

// Unauthorized tells a server that does not let us in, for who we are or are not,
// from all else that can go wrong with a connection.
func Unauthorized(err error) bool {
	for _, refusal := range []error{
		nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired, nats.ErrNkeysNotSupported,
	} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}

// RefusesTLS says that the server does not go on with TLS, for what it thinks of our
// certificate, mostly.
func RefusesTLS(err error) bool {
	var op *net.OpError // as package tls reports the other side's alert
	return errors.As(err, &op) && op.Op == "remote error"
}

// Denied is one thing that the server does not let this user do.
type Denied struct {
	// Operation is "publish" or "subscribe".
	Operation string
	// Subject is what it was about; "" when the server did not say.
	Subject string
}

var deniedSubject = regexp.MustCompile(`(?i)(publish|subscription) to "([^"]*)"`)

// AsDenied reads a permissions violation, which the server reports aside: the one
// who published or subscribed gets no error.
func AsDenied(err error) (Denied, bool) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return Denied{}, false
	}
	match := deniedSubject.FindStringSubmatch(err.Error())
	if match == nil {
		return Denied{Operation: "publish"}, true // a reply subject, for one
	}
	if strings.EqualFold(match[1], "subscription") {
		return Denied{"subscribe", match[2]}, true
	}
	return Denied{"publish", match[2]}, true
}

// Redact hides passwords and tokens in a list of servers. What cannot be read as
// a URL is hidden whole, for it may be a password that was not escaped.
func Redact(servers string) string {
	list := strings.Split(servers, ",")
	for i, server := range list {
		server = strings.TrimSpace(server)
		u, err := ParseServer(server)
		switch {
		case err != nil:
			list[i] = "xxxxx"
		case u.User == nil:
			list[i] = server
		default:
			if _, hasPassword := u.User.Password(); !hasPassword {
				u.User = url.User("xxxxx") // alone it is a token
			}
			list[i] = u.Redacted()
		}
	}
	return strings.Join(list, ",")
}

// ParseServer reads one server's URL, which may lack nats:// as it may for NATS.
// Its error holds nothing of the URL.
func ParseServer(server string) (*url.URL, error) {
	if !strings.Contains(server, "://") {
		server = "nats://" + server
	}
	u, err := url.Parse(server)
	if err != nil || u.Hostname() == "" {
		return nil, errors.New("is not a URL such as nats://host:4222 or nats://user:password@host:4222; " +
			"special characters in a password are written as %XX")
	}
	return u, nil
}
