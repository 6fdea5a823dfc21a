package dns

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"
)

const (
	// Each network of clients may send so many packets a second, and so many at once
	// after a pause. Authorities send some ten for a certificate.
	packetsPerSecond = 20
	packetsAtOnce    = 100
	// limitSlots is a number of networks that are told apart. Two that fall into one
	// share its limit; which do, nobody outside knows.
	limitSlots = 1 << 14
)

// limiter counts packets for each network of clients, in memory that does not grow (I8).
type limiter struct {
	seed  maphash.Seed
	start time.Time
	// slots hold when the packets that were let through would have come at the
	// allowed pace, as time since start.
	slots [limitSlots]atomic.Int64
}

func newLimiter() *limiter { return &limiter{seed: maphash.MakeSeed(), start: time.Now()} }

// allow says whether another packet from there is within the limit, and counts it if so.
func (l *limiter) allow(from netip.Addr) bool {
	const interval, burst = int64(time.Second / packetsPerSecond), int64(packetsAtOnce) * int64(time.Second/packetsPerSecond)
	slot := &l.slots[maphash.Comparable(l.seed, network(from))%limitSlots]
	now := int64(time.Since(l.start))
	for {
		last := slot.Load()
		next := max(last, now) + interval
		if next-now > burst {
			return false
		}
		if slot.CompareAndSwap(last, next) {
			return true
		}
	}
}

// network is what one client may have many addresses in.
func network(from netip.Addr) netip.Prefix {
	from = from.Unmap().WithZone("")
	bits := 56
	if from.Is4() {
		bits = 24
	}
	prefix, _ := from.Prefix(bits)
	return prefix
}
