package proxy

import "strings"

// hostOf is the one host under which a backend is reached.
func hostOf(cluster, subdomain string) string {
	if subdomain == "" {
		return cluster
	}
	return subdomain + "." + cluster
}

// sameHost compares a Host header with the host it should be. Letter case does
// not matter, and neither do the ports that browsers leave out.
func sameHost(got, want string) bool {
	return got != "" && strings.EqualFold(withoutDefaultPort(got), withoutDefaultPort(want))
}

func withoutDefaultPort(host string) string {
	if cut, ok := strings.CutSuffix(host, ":443"); ok {
		return cut
	}
	return strings.TrimSuffix(host, ":80")
}
