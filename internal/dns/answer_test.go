package dns

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	miekg "github.com/miekg/dns"
)

const (
	apex  = "_acme-challenge.rooms.example.com."
	other = "rooms.acme.example.net."
)

// twoZones is a server's zones: one delegated by NS, one that a CNAME leads to.
func twoZones(t testing.TB) zones {
	t.Helper()
	zs := zones{}
	for _, s := range []string{"_acme-challenge.rooms.example.com", "rooms.acme.example.net=rooms.example.com"} {
		z, err := ParseZone(s)
		if err != nil {
			t.Fatal(err)
		}
		made := newZone(z, []string{"ns1.example.com", "ns2.example.com"})
		zs[made.apex] = made
	}
	return zs
}

func (zs zones) put(t testing.TB, value string) {
	t.Helper()
	for _, z := range zs.forDomain("rooms.example.com") {
		if err := z.present(value); err != nil {
			t.Fatal(err)
		}
	}
}

// ask asks as a client does, and reads the reply as it does.
func ask(t testing.TB, zs zones, came how, change func(q *miekg.Msg)) (*miekg.Msg, []byte) {
	t.Helper()
	q := new(miekg.Msg)
	q.SetQuestion(apex, miekg.TypeTXT)
	change(q)
	packet, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	reply := zs.answer(packet, came)
	if reply == nil {
		return nil, nil
	}
	r := new(miekg.Msg)
	if err := r.Unpack(reply); err != nil {
		t.Fatal(err)
	}
	if r.Id != q.Id || !r.Response {
		t.Errorf("the reply is not one to the query: %v", r)
	}
	return r, reply
}

func TestAnswersAsAnAuthorityForItsZonesOnly(t *testing.T) {
	t.Parallel()
	zs := twoZones(t)
	zs.put(t, "V1")
	for _, c := range []struct {
		what   string
		name   string
		kind   uint16
		change func(q *miekg.Msg)
		rcode  int
		answer string // of every record in the answer a part, "" for none
		soa    bool   // in the authority section
	}{
		{what: "the value", name: apex, kind: miekg.TypeTXT, answer: `"V1"`},
		{what: "the value behind a CNAME", name: other, kind: miekg.TypeTXT, answer: `"V1"`},
		{what: "any spelling", name: "_AcMe-challenge.ROOMS.example.com.", kind: miekg.TypeTXT, answer: "_AcMe-challenge.ROOMS.example.com.\t5\tIN\tTXT"},
		{what: "SOA", name: apex, kind: miekg.TypeSOA, answer: "ns1.example.com. hostmaster.rooms.example.com."},
		{what: "NS", name: apex, kind: miekg.TypeNS, answer: "example.com."},
		{what: "ANY, which is answered with little", name: apex, kind: miekg.TypeANY, answer: "SOA"},
		{what: "NODATA", name: apex, kind: miekg.TypeA, soa: true},
		{what: "NODATA for CAA", name: apex, kind: miekg.TypeCAA, soa: true},
		{what: "NXDOMAIN", name: "x." + apex, kind: miekg.TypeTXT, rcode: miekg.RcodeNameError, soa: true},
		{what: "another name", name: "rooms.example.com.", kind: miekg.TypeTXT, rcode: miekg.RcodeRefused},
		{what: "a name that ends alike", name: "x" + apex, kind: miekg.TypeTXT, rcode: miekg.RcodeRefused},
		{what: "the root", name: ".", kind: miekg.TypeNS, rcode: miekg.RcodeRefused},
		{what: "a transfer", name: apex, kind: miekg.TypeAXFR, rcode: miekg.RcodeRefused},
		{what: "another class", name: apex, kind: miekg.TypeTXT, change: func(q *miekg.Msg) { q.Question[0].Qclass = miekg.ClassCHAOS }, rcode: miekg.RcodeRefused},
		{what: "an update", name: apex, kind: miekg.TypeSOA, change: func(q *miekg.Msg) { q.Opcode = miekg.OpcodeUpdate }, rcode: miekg.RcodeNotImplemented},
		{what: "no question", name: apex, kind: miekg.TypeTXT, change: func(q *miekg.Msg) { q.Question = nil }, rcode: miekg.RcodeFormatError},
		{what: "two questions", name: apex, kind: miekg.TypeTXT, change: func(q *miekg.Msg) { q.Question = append(q.Question, q.Question[0]) }, rcode: miekg.RcodeFormatError},
		{what: "EDNS of the future", name: apex, kind: miekg.TypeTXT, change: func(q *miekg.Msg) { q.SetEdns0(4096, true); q.IsEdns0().SetVersion(1) }, rcode: miekg.RcodeBadVers},
	} {
		r, _ := ask(t, zs, byUDP, func(q *miekg.Msg) {
			q.Question[0].Name, q.Question[0].Qtype = c.name, c.kind
			if c.change != nil {
				c.change(q)
			}
		})
		if r.Rcode != c.rcode || (len(r.Answer) > 0) != (c.answer != "") {
			t.Errorf("%s: got %v", c.what, r)
			continue
		}
		for _, rr := range r.Answer {
			if !strings.Contains(rr.String(), c.answer) {
				t.Errorf("%s: got %v", c.what, rr)
			}
		}
		known := c.rcode == miekg.RcodeSuccess || c.rcode == miekg.RcodeNameError
		if r.Authoritative != known || r.RecursionAvailable {
			t.Errorf("%s: AA %t, RA %t", c.what, r.Authoritative, r.RecursionAvailable)
		}
		if hasSOA := len(r.Ns) == 1 && r.Ns[0].Header().Rrtype == miekg.TypeSOA; hasSOA != c.soa || (!c.soa && len(r.Ns) > 0) {
			t.Errorf("%s: authority section %v", c.what, r.Ns)
		}
	}
}

func TestNoValueIsNODATAAndASerialGrowsWithEveryChange(t *testing.T) {
	t.Parallel()
	zs := twoZones(t)
	var last uint32
	for i, change := range []func(){
		func() {}, func() { zs.put(t, "V1") }, func() { zs.put(t, "V2") }, func() { zs[apex].remove("V1") }, func() { zs[apex].remove("V2") },
	} {
		change()
		r, _ := ask(t, zs, byUDP, func(*miekg.Msg) {})
		if want := []int{0, 1, 2, 1, 0}[i]; r.Rcode != miekg.RcodeSuccess || len(r.Answer) != want {
			t.Errorf("step %d: got %v, wanted %d values", i, r, want)
		}
		soa, _ := ask(t, zs, byUDP, func(q *miekg.Msg) { q.Question[0].Qtype = miekg.TypeSOA })
		serial := soa.Answer[0].(*miekg.SOA).Serial
		if serial <= last {
			t.Errorf("step %d: serial %d after %d", i, serial, last)
		}
		last = serial
	}
}

// Whatever is asked by UDP, and however much there is to say, what goes out is small.
func TestI8RepliesByUDPAreSmallAndTCPHasAll(t *testing.T) {
	t.Parallel()
	zs := twoZones(t)
	for i := range maxValues {
		zs.put(t, fmt.Sprintf("%043d", i))
	}
	if zs[apex].present("one more") == nil {
		t.Error("more values are taken than the bound")
	}
	for size, limit := range map[uint16]int{0: 512, 100: 512, 900: 900, 65535: maxUDP} {
		r, packet := ask(t, zs, byUDP, func(q *miekg.Msg) {
			if size > 0 {
				q.SetEdns0(size, false)
			}
		})
		if !r.Truncated || len(packet) > limit || (r.IsEdns0() != nil) != (size > 0) {
			t.Errorf("to a client that takes %d bytes: %d bytes, TC %t, OPT %v", size, len(packet), r.Truncated, r.IsEdns0())
		}
	}
	if r, _ := ask(t, zs, byTCP, func(*miekg.Msg) {}); r.Truncated || len(r.Answer) != maxValues {
		t.Errorf("by TCP: %d values, TC %t", len(r.Answer), r.Truncated)
	}
	q := new(miekg.Msg)
	q.SetQuestion(apex, miekg.TypeTXT)
	asked, _ := q.Pack()
	if _, packet := ask(t, zs, limited, func(*miekg.Msg) {}); len(packet) > len(asked) {
		t.Errorf("a network over its limit gets %d bytes for %d", len(packet), len(asked))
	}
}

// Two servers that take each other's replies for queries would never end.
func TestResponsesAndScrapsAreNotAnswered(t *testing.T) {
	t.Parallel()
	zs := twoZones(t)
	if r, _ := ask(t, zs, byUDP, func(q *miekg.Msg) { q.Response = true }); r != nil {
		t.Errorf("a response is answered: %v", r)
	}
	for _, packet := range [][]byte{nil, {}, make([]byte, headerSize-1), make([]byte, maxQuery+1)} {
		if reply := zs.answer(packet, byUDP); reply != nil {
			t.Errorf("%d bytes are answered with %x", len(packet), reply)
		}
	}
}

func TestValuesThatNobodyRemovesEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		zs := twoZones(t)
		zs.put(t, "V1")
		time.Sleep(valueLife - time.Second)
		zs.put(t, "V2")
		time.Sleep(2 * time.Second)
		if r, _ := ask(t, zs, byUDP, func(*miekg.Msg) {}); len(r.Answer) != 1 || !strings.Contains(r.Answer[0].String(), "V2") {
			t.Errorf("got %v", r.Answer)
		}
	})
}

func TestI8EachNetworkHasItsLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter()
		burst := func(addr string) (n int) {
			for range 10 * packetsAtOnce {
				if l.allow(netip.MustParseAddr(addr)) {
					n++
				}
			}
			return n
		}
		if n := burst("192.0.2.1"); n != packetsAtOnce {
			t.Errorf("%d packets at once", n)
		}
		if n := burst("::ffff:192.0.2.77"); n != 0 {
			t.Errorf("another address of the same network gets %d more", n)
		}
		if n := burst("198.51.100.1"); n != packetsAtOnce {
			t.Errorf("another network gets %d", n)
		}
		if n := burst("2001:db8::1"); n != packetsAtOnce {
			t.Errorf("a network of IPv6 gets %d", n)
		}
		if n := burst("2001:db8:0:ff::2%eth0"); n != 0 {
			t.Errorf("another address of that gets %d", n)
		}
		time.Sleep(time.Second)
		if n := burst("192.0.2.1"); n != packetsPerSecond {
			t.Errorf("a second later %d", n)
		}
	})
}

func TestZonesAreRead(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]Zone{
		"_acme-challenge.rooms.example.com":        {Name: "_acme-challenge.rooms.example.com", Domain: "rooms.example.com"},
		"_ACME-challenge.Rooms.example.com.":       {Name: "_acme-challenge.rooms.example.com", Domain: "rooms.example.com"},
		"rooms.acme.example.net=rooms.example.com": {Name: "rooms.acme.example.net", Domain: "rooms.example.com"},
	} {
		if got, err := ParseZone(s); err != nil || got != want {
			t.Errorf("%s: got %+v, %v", s, got, err)
		}
	}
	for _, bad := range []string{"", "rooms.example.com", "_acme-challenge.", "_acme-challenge.a b", "x=", "=x", "a..b=x", "*.a=x", "a=*.x"} {
		if z, err := ParseZone(bad); err == nil {
			t.Errorf("%q was taken for %+v", bad, z)
		}
	}
}

// No packet makes the server panic, send more than it may, or anything that is not a reply.
func FuzzAnswer(f *testing.F) {
	zs := twoZones(f)
	for i := range maxValues {
		zs.put(f, fmt.Sprintf("%043d", i))
	}
	for _, kind := range []uint16{miekg.TypeTXT, miekg.TypeSOA, miekg.TypeANY, miekg.TypeOPT} {
		q := new(miekg.Msg)
		q.SetQuestion(apex, kind)
		q.SetEdns0(4096, true)
		packet, err := q.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packet, uint8(0))
	}
	f.Add([]byte("\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x10\x00\x01"), uint8(1)) // a name that points at itself
	f.Fuzz(func(t *testing.T, packet []byte, came uint8) {
		as := how(came % 3)
		reply := zs.answer(packet, as)
		if reply == nil {
			return
		}
		if as != byTCP && len(reply) > maxUDP {
			t.Fatalf("%d bytes by UDP", len(reply))
		}
		if reply[2]&0x80 == 0 || reply[0] != packet[0] || reply[1] != packet[1] {
			t.Fatalf("%x is no reply to %x", reply, packet)
		}
		if err := new(miekg.Msg).Unpack(reply); err != nil {
			t.Fatalf("%x cannot be read: %v", reply, err)
		}
	})
}
