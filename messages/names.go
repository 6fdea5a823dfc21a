package messages

import (
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of what a message may hold, in bytes unless said otherwise.
const (
	MaxPayload    = 384 << 10 // a whole message
	MaxExecutable = 256 << 10
	MaxAuth       = 64 << 10
	MaxName       = 255 // key names, namespaces, tags, users
	MaxBackendID  = 45
	MaxText       = 4 << 10  // a message for people
	MaxNotReady   = 512      // why a drone is not ready
	MaxLine       = 64 << 10 // a line of output
	MaxSeconds    = 10 * 365 * 24 * 3600
	MaxNamed      = 8000 // backends that one message names
	MaxKeepalives = 6000 // backends in one keepalive, each with a number: all of them fit MaxPayload
	MaxReports    = 1000 // states in one report
	MaxPage       = 200  // rows in one listing
)

// checkID: 1 to MaxBackendID characters of a-z 0-9 -. Such a name is one token
// of a subject: it can hold no dot, space or wildcard.
func checkID(field, id string) *Error {
	if id == "" || len(id) > MaxBackendID {
		return badField(field, "must have 1 to %d characters of a-z, 0-9 and '-'", MaxBackendID)
	}
	for i := range len(id) {
		c := id[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return badField(field, "must have 1 to %d characters of a-z, 0-9 and '-'", MaxBackendID)
		}
	}
	return nil
}

func checkPrefixed(field, prefix, name string) *Error {
	if !strings.HasPrefix(name, prefix) || len(name) == len(prefix) || checkID(field, name) != nil {
		return badField(field, "must be %q and more characters of a-z, 0-9 and '-', %d at most", prefix, MaxBackendID)
	}
	return nil
}

// CheckBackendID refuses what is not a backend's id.
func CheckBackendID(id string) error { return asError(checkID("backend_id", id)) }

// CheckKey refuses what is not a key.
func CheckKey(k Key) error { return asError(k.validate()) }

// CheckDroneName refuses what is not a drone's name (dr-…).
func CheckDroneName(name string) error { return asError(checkPrefixed("drone", "dr-", name)) }

// CheckProxyName refuses what is not a proxy's name (px-…).
func CheckProxyName(name string) error { return asError(checkPrefixed("proxy", "px-", name)) }

// CheckDNSName refuses what is not a DNS server's name (ns-…).
func CheckDNSName(name string) error { return asError(checkPrefixed("dns", "ns-", name)) }

// CheckDomain refuses what is not a hostname in lower case; an IP address is none.
func CheckDomain(domain string) error { return asError(checkDomain("domain", domain)) }

// CheckWorkerName refuses what is not a worker's name (wo-…).
func CheckWorkerName(name string) error { return asError(checkPrefixed("worker", "wo-", name)) }

// CheckCluster refuses what is not a hostname or IP with an optional port.
func CheckCluster(cluster string) error { return asError(checkCluster("cluster", cluster)) }

// CheckPool refuses what is not a pool's name: up to MaxName bytes, "" is the default pool.
func CheckPool(pool string) error { return asError(checkText("pool", pool, MaxName)) }

// asError keeps a nil *Error from becoming a non-nil error.
func asError(e *Error) error {
	if e == nil {
		return nil
	}
	return e
}

// checkText: valid UTF-8 without control characters, at most limit bytes.
func checkText(field, s string, limit int) *Error {
	if len(s) > limit {
		return badField(field, "is %d bytes long, at most %d are allowed", len(s), limit)
	}
	for i, r := range s {
		if r < utf8.RuneSelf {
			if r < ' ' || r == 0x7f {
				return badField(field, "holds a control character at byte %d", i)
			}
			continue
		}
		if r == utf8.RuneError || unicode.IsControl(r) {
			return badField(field, "holds a control character or broken UTF-8 at byte %d", i)
		}
	}
	return nil
}

// checkLabel: one DNS label.
func checkLabel(field, s string) *Error {
	ok := s != "" && len(s) <= 63 && s[0] != '-' && s[len(s)-1] != '-'
	for i := 0; ok && i < len(s); i++ {
		c := s[i]
		ok = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'
	}
	if !ok {
		return badField(field, "must be one DNS label: 1 to 63 characters of a-z, 0-9 and, inside, '-'")
	}
	return nil
}

func checkCluster(field, s string) *Error {
	bad := func() *Error { return badField(field, "must be a hostname or an IP address, with an optional port") }
	if len(s) > MaxName {
		return bad()
	}
	if _, err := netip.ParseAddrPort(s); err == nil {
		return nil
	}
	host := s
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		port, err := strconv.ParseUint(s[i+1:], 10, 16)
		if err != nil || port == 0 || s[i+1] == '+' {
			return bad()
		}
		host = s[:i]
	}
	if host == "" || strings.ContainsAny(host, "[]:%") {
		return bad()
	}
	for label := range strings.SplitSeq(host, ".") {
		if checkLabel(field, label) != nil {
			return bad()
		}
	}
	return nil
}

// maxDomain leaves room for the label before it under which challenges are answered.
const maxDomain = 253 - len("_acme-challenge.")

func checkDomain(field, s string) *Error {
	bad := func() *Error {
		return badField(field, "must be a hostname of a-z, 0-9, '-' and dots, %d characters at most, without a port", maxDomain)
	}
	if len(s) > maxDomain {
		return bad()
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return bad()
	}
	for label := range strings.SplitSeq(s, ".") {
		if checkLabel(field, label) != nil {
			return bad()
		}
	}
	return nil
}
