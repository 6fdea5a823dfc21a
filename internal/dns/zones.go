package dns

import (
	"fmt"
	"strings"
	"sync"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/jetway-project/jetway/messages"
)

const (
	// maxValues bounds the values of one zone at a time. A certificate takes one.
	maxValues = 32
	// valueLife is for how long a value is answered that nobody removes: its proxy
	// may have died. Authorities ask within minutes.
	valueLife = time.Hour
	// challengeLabel begins the names that authorities ask for.
	challengeLabel = "_acme-challenge."
)

// Zone is a part of the DNS that is delegated to this server. It has records at its
// top only: the challenges of one domain.
type Zone struct {
	// Name of the zone, without a dot at its end.
	Name string
	// Domain is whose challenges are answered there.
	Domain string
}

// ParseZone reads ZONE or ZONE=DOMAIN. A zone _acme-challenge.<domain>, delegated
// by NS records, needs no domain; another one is what a CNAME record at
// _acme-challenge.<domain> leads to.
func ParseZone(s string) (Zone, error) {
	name, domain, given := strings.Cut(strings.ToLower(s), "=")
	name, domain = strings.TrimSuffix(name, "."), strings.TrimSuffix(domain, ".")
	if !given {
		rest, ok := strings.CutPrefix(name, challengeLabel)
		if !ok {
			return Zone{}, fmt.Errorf("%q must begin with %s, or say for which domain it is: %s=DOMAIN", s, challengeLabel, name)
		}
		domain = rest
	}
	z := Zone{Name: name, Domain: domain}
	return z, z.validate()
}

func (z *Zone) validate() error {
	if err := checkHost(strings.ReplaceAll(strings.TrimPrefix(z.Name, challengeLabel), "_", "x")); err != nil {
		return fmt.Errorf("zone %q: must be a name in the DNS", z.Name)
	}
	if err := checkHost(z.Domain); err != nil {
		return fmt.Errorf("zone %q: its domain %q must be a hostname", z.Name, z.Domain)
	}
	return nil
}

func checkHost(s string) error { return messages.CheckDomain(s) }

// zone is a Zone with what is answered now.
type zone struct {
	domain string
	apex   string // with the dot
	ns     []string

	mu     sync.Mutex
	values map[string]time.Time // until when
	serial uint32
}

func newZone(z Zone, ns []string) *zone {
	return &zone{
		domain: z.Domain, apex: miekg.Fqdn(z.Name), ns: ns,
		values: make(map[string]time.Time), serial: uint32(time.Now().Unix()),
	}
}

// present answers with value from now on; again is no error.
func (z *zone) present(value string) error {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.expire()
	if _, known := z.values[value]; !known {
		if len(z.values) >= maxValues {
			return messages.Errorf(messages.Overloaded, "%s has %d values already, which is the most", z.domain, maxValues)
		}
		z.changed()
	}
	z.values[value] = time.Now().Add(valueLife)
	return nil
}

// remove no longer answers with value.
func (z *zone) remove(value string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if _, known := z.values[value]; known {
		delete(z.values, value)
		z.changed()
	}
}

// expire drops what nobody removed. The caller holds the lock.
func (z *zone) expire() {
	now := time.Now()
	for value, until := range z.values {
		if now.After(until) {
			delete(z.values, value)
			z.changed()
		}
	}
}

func (z *zone) changed() { z.serial = max(z.serial+1, uint32(time.Now().Unix())) }

// look gives what is answered at this moment.
func (z *zone) look() (values []string, serial uint32) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.expire()
	for value := range z.values {
		values = append(values, value)
	}
	return values, z.serial
}

// zones finds the zone that a name is in.
type zones map[string]*zone // by apex, in lower case

func (zs zones) of(name string) *zone {
	name = miekg.CanonicalName(name)
	for at, end := 0, false; !end; at, end = miekg.NextLabel(name, at) {
		if z := zs[name[at:]]; z != nil {
			return z
		}
	}
	return nil
}

// forDomain gives the zones that answer for a domain: one, or one for NS and one for CNAME.
func (zs zones) forDomain(domain string) (found []*zone) {
	for _, z := range zs {
		if z.domain == domain {
			found = append(found, z)
		}
	}
	return found
}
