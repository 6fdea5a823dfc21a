package proxy

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// origin is who sends a request, and by which scheme: by the connection, or by what proxies that are
// trusted say of it.
type origin struct {
	client string // its address
	proto  string // http or https
}

// trusts says that what addr says of others is believed.
func (p *Proxy) trusts(addr netip.Addr) bool {
	for _, net := range p.cfg.TrustedProxies {
		if net.Contains(addr) {
			return true
		}
	}
	return false
}

// originOf gives a request's origin. Of the addresses that proxies have added one after the other, the client's is the
// last that is no trusted proxy's: those before it, the client may have made up.
func (p *Proxy) originOf(r *http.Request) origin {
	o := origin{client: r.RemoteAddr, proto: "http"}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		o.client = host
	}
	if p.cfg.TLS != nil {
		o.proto = "https"
	}
	if len(p.cfg.TrustedProxies) == 0 {
		return o
	}
	peer, err := netip.ParseAddr(o.client)
	if err != nil || !p.trusts(peer.Unmap().WithZone("")) {
		return o
	}
	hops, proto := hopsOf(r.Header)
	if proto == "http" || proto == "https" {
		o.proto = proto
	}
	for _, hop := range slices.Backward(hops) {
		addr, ok := hopAddr(hop)
		if !ok {
			break
		}
		o.client = addr.String()
		if !p.trusts(addr) {
			break
		}
	}
	return o
}

// hopsOf gives what X-Forwarded-For, else Forwarded, says of the way, the nearest last, and the scheme by which the last
// of them was asked.
func hopsOf(h http.Header) (hops []string, proto string) {
	proto = last(h["X-Forwarded-Proto"])
	if h["X-Forwarded-For"] != nil {
		return strings.Split(strings.Join(h["X-Forwarded-For"], ","), ","), proto
	}
	forwarded := strings.Join(h["Forwarded"], ",")
	if forwarded == "" {
		return nil, proto
	}
	for element := range strings.SplitSeq(forwarded, ",") {
		hop := ""
		for pair := range strings.SplitSeq(element, ";") {
			name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
			value = strings.Trim(value, `"`)
			switch strings.ToLower(name) {
			case "for":
				hop = value
			case "proto":
				proto = strings.ToLower(value)
			}
		}
		hops = append(hops, hop)
	}
	return hops, proto
}

func last(lists []string) string {
	if len(lists) == 0 {
		return ""
	}
	list := lists[len(lists)-1]
	return strings.ToLower(strings.TrimSpace(list[strings.LastIndexByte(list, ',')+1:]))
}

// hopAddr reads an address, which may have a port.
func hopAddr(hop string) (netip.Addr, bool) {
	hop = strings.TrimSpace(hop)
	if at, err := netip.ParseAddrPort(hop); err == nil {
		return at.Addr().Unmap().WithZone(""), true
	}
	addr, err := netip.ParseAddr(strings.Trim(hop, "[]"))
	return addr.Unmap().WithZone(""), err == nil
}

// clientOf gives the address by which who sends a request is counted.
func (p *Proxy) clientOf(r *http.Request) netip.Addr {
	addr, _ := netip.ParseAddr(p.originOf(r).client)
	return group(addr.Unmap().WithZone(""))
}
