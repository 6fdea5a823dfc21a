package messages

// Challenge is a value that a certificate authority wants to find in the DNS, as
// TXT record of _acme-challenge.<domain>, before it gives a certificate for the
// domain or for *.domain (ACME's DNS-01). It is the payload of
// [SubjectDNSPresent] and [SubjectDNSRemove].
type Challenge struct {
	Domain string `json:"domain"`
	Value  string `json:"value"`
}

// Presented says that a DNS server answers with the value from now on.
type Presented struct {
	// Server is who does, ns-….
	Server string `json:"server"`
}

// MaxChallengeValue is the length that no value exceeds, in bytes. ACME's are 43.
const MaxChallengeValue = 64

func (c *Challenge) validate() *Error {
	if err := checkDomain("domain", c.Domain); err != nil {
		return err
	}
	ok := c.Value != "" && len(c.Value) <= MaxChallengeValue
	for i := 0; ok && i < len(c.Value); i++ {
		b := c.Value[i]
		ok = (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z') || (b >= '0' && b <= '9') || b == '-' || b == '_'
	}
	if !ok {
		return badField("value", "must have 1 to %d characters of base64url", MaxChallengeValue)
	}
	return nil
}
