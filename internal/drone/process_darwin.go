package drone

import "net/netip"

// startOf is not needed without a guard.
func startOf(int) uint64 { return 0 }

// listening cannot be told on this system.
func listening(int, string) []netip.AddrPort { return nil }
