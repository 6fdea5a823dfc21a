package cli

import (
	"fmt"
	"testing"
)

func TestTrustedProxiesAreAddressesOrNetworks(t *testing.T) {
	for text, want := range map[string]string{
		"10.1.2.3": "[10.1.2.3/32]", "10.1.2.3/8": "[10.0.0.0/8]", " ::1": "[::1/128]", "2001:db8::/32": "[2001:db8::/32]", "::ffff:10.0.0.1": "[10.0.0.1/32]",
		"lb.internal": "", "10.0.0.0/33": "", "": "",
	} {
		list, err := networks([]string{text})
		if got := fmt.Sprint(list); err == nil && got != want || (err == nil) != (want != "") {
			t.Errorf("%q is %s, %v, want %s", text, got, err, want)
		}
	}
}
