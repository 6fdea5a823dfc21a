// Package certs gives a proxy's listener its certificates and keeps them valid:
// from files that somebody else renews, or from a certificate authority by ACME
// (Let's Encrypt, for one), through the library certmagic.
//
// It owns the certificates, the plain HTTP listener that it was given, and what
// proxies share of them on the bus. The TLS listener is the proxy's, and the NATS
// connection its caller's, who drains it after [Keeper.Run] has returned.
//
// What holds here:
//
//   - A certificate in use is replaced by a valid newer one only. Files that make no
//     pair, an authority that refuses or cannot be reached, a bus that is away: the old
//     one goes on, and the log says so.
//   - Certificates are ordered for the names that the operator gave and for no other,
//     whatever names clients ask for; nor does a handshake for another name reach the bus.
//   - Proxies with the same names order once: one holds the lock, the others read what
//     it stored. Locks end with who holds them, judged without comparing clocks.
//   - That the bus is away is never taken for that a certificate is not there.
//   - Every goroutine here is waited for by Run; certmagic's own end with it.
//
// The way of a certificate, file by file: keeper.go (what the proxy sees), files.go
// or acme.go (where from), storage.go and lock.go (what proxies share), dns01.go (the
// word to DNS servers), http.go (the plain listener), expiry.go (what the log says).
package certs
