// Package dns is a small authoritative DNS server for what certificate authorities
// ask before they give a wildcard certificate (ACME's DNS-01): the TXT records of
// _acme-challenge.<domain>. Proxies tell it the values over the bus; it knows no
// other records than these and its own SOA and NS.
//
// It owns its sockets, and the values, which are in memory only: they live for
// minutes. A server that starts, or may have missed something, says so on
// [messages.SubjectDNSStarted], and proxies tell it again what they want answered.
// The NATS connection is its caller's, who drains it after [Server.Run] has returned.
//
// What holds here:
//
//   - A query never costs more than itself: it is answered from memory, by a fixed
//     number of goroutines for UDP and a bounded number of connections for TCP (I8).
//   - Nobody is attacked through this server: what goes out by UDP has at most
//     maxUDP bytes, and so many packets a second for each network of clients; the
//     rest is dropped, or told to come by TCP.
//   - No packet, whatever is in it, makes it panic ([Server.Run] does not recover).
//   - A proxy that was answered finds its value served: the answer is sent after the
//     value is in place.
//
// File by file: answer.go (query to reply), zones.go (what there is to answer),
// limit.go, udp.go and tcp.go (packets), server.go (the bus).
package dns
