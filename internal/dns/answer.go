package dns

import (
	"encoding/binary"

	miekg "github.com/miekg/dns"
)

const (
	// maxUDP is the most that is sent in one packet: what passes everywhere unfragmented.
	maxUDP = 1232
	// maxQuery is the longest query that is read. Real ones take a tenth.
	maxQuery = 1232
	// ttl of all records, in seconds: nobody should remember these, nor that there were none.
	ttl        = 5
	headerSize = 12
)

// how a packet came.
type how int

const (
	byUDP   how = iota
	byTCP       // from an address that is its sender's
	limited     // by UDP, from a network that sent too many: it is to come by TCP
)

// answer gives the reply to one packet, or nil where there is to be none.
func (zs zones) answer(packet []byte, came how) []byte {
	if len(packet) < headerSize || len(packet) > maxQuery || packet[2]&0x80 != 0 {
		return nil // a response, for one: two servers could go on for ever
	}
	var query miekg.Msg
	reply := new(miekg.Msg)
	if query.Unpack(packet) != nil {
		reply.Id, reply.Response, reply.Rcode = binary.BigEndian.Uint16(packet), true, miekg.RcodeFormatError
		reply.Opcode = int(packet[2]>>3) & 0xF
		return pack(reply, miekg.MinMsgSize)
	}
	reply.SetReply(&query)
	size := miekg.MinMsgSize
	opt := query.IsEdns0()
	if opt != nil {
		size = min(max(int(opt.UDPSize()), miekg.MinMsgSize), maxUDP)
		reply.SetEdns0(maxUDP, false)
	}
	if came == byTCP {
		size = miekg.MaxMsgSize
	}
	switch {
	case query.Opcode != miekg.OpcodeQuery:
		reply.Rcode = miekg.RcodeNotImplemented
	case len(query.Question) != 1 || len(query.Answer) > 0 || len(query.Ns) > 0:
		reply.Rcode = miekg.RcodeFormatError
	case opt != nil && opt.Version() != 0:
		reply.Rcode = miekg.RcodeBadVers
	case came == limited:
		reply.Truncated = true
	default:
		zs.fill(reply, query.Question[0])
	}
	return pack(reply, size)
}

// fill puts the records that are asked for into reply.
func (zs zones) fill(reply *miekg.Msg, q miekg.Question) {
	z := zs.of(q.Name)
	if z == nil || q.Qclass != miekg.ClassINET || q.Qtype == miekg.TypeAXFR || q.Qtype == miekg.TypeIXFR {
		reply.Rcode = miekg.RcodeRefused
		return
	}
	reply.Authoritative = true
	values, serial := z.look()
	if miekg.CanonicalName(q.Name) != z.apex {
		reply.Rcode = miekg.RcodeNameError
		reply.Ns = []miekg.RR{z.soa(z.apex, serial)}
		return
	}
	// With the spelling of the question: some resolvers vary it, to know their answers.
	switch q.Qtype {
	case miekg.TypeTXT:
		for _, value := range values {
			reply.Answer = append(reply.Answer, &miekg.TXT{Hdr: header(q.Name, miekg.TypeTXT), Txt: []string{value}})
		}
	case miekg.TypeNS:
		for _, ns := range z.ns {
			reply.Answer = append(reply.Answer, &miekg.NS{Hdr: header(q.Name, miekg.TypeNS), Ns: miekg.Fqdn(ns)})
		}
	case miekg.TypeSOA, miekg.TypeANY: // of all, one is enough (RFC 8482)
		reply.Answer = []miekg.RR{z.soa(q.Name, serial)}
	}
	if len(reply.Answer) == 0 {
		reply.Ns = []miekg.RR{z.soa(z.apex, serial)}
	}
}

func (z *zone) soa(name string, serial uint32) miekg.RR {
	return &miekg.SOA{
		Hdr: header(name, miekg.TypeSOA), Ns: miekg.Fqdn(z.ns[0]), Mbox: miekg.Fqdn("hostmaster." + z.domain),
		Serial: serial, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: ttl,
	}
}

func header(name string, kind uint16) miekg.RR_Header {
	return miekg.RR_Header{Name: name, Rrtype: kind, Class: miekg.ClassINET, Ttl: ttl}
}

// pack gives reply in at most size bytes, with TC where something had to be left out.
func pack(reply *miekg.Msg, size int) []byte {
	truncated := reply.Truncated
	reply.Truncate(size)
	reply.Truncated = reply.Truncated || truncated
	packet, err := reply.Pack()
	if err != nil || len(packet) > size {
		return nil // a name that can be read but not written
	}
	return packet
}
