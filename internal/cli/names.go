package cli

import (
	"os"
	"strings"

	"github.com/jetway-project/jetway/messages"
)

// hostName is a role's name made of a prefix and this machine's name, without
// the characters that no name may have.
func hostName(prefix string) string {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	return nameFrom(prefix, host)
}

func nameFrom(prefix, host string) string {
	host, _, _ = strings.Cut(strings.ToLower(host), ".")
	host = strings.Map(func(r rune) rune {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') {
			return '-'
		}
		return r
	}, host)
	host = strings.Trim(host, "-")
	if host == "" {
		host = "local"
	}
	name := prefix + host
	return strings.TrimRight(name[:min(len(name), messages.MaxBackendID)], "-")
}
