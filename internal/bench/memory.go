package bench

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
)

// settle is how long a proxy may take to have dealt with what was before, in a measurement that is
// not shorter itself.
const settle = time.Second

// socketMemory opens WebSockets, uses each once, and looks by how much the process grew.
func socketMemory(ctx context.Context, t *target, n int, settle time.Duration) (SocketMemory, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// So that what is there once, whatever comes, is there.
	warm, err := openSockets(ctx, t, 16, ioTimeout)
	if err != nil {
		return SocketMemory{}, err
	}
	warm.close()
	rest(ctx, settle)
	before, err := t.process.usage()
	if err != nil {
		return SocketMemory{}, err
	}
	s, err := openSockets(ctx, t, n, ioTimeout)
	if err != nil {
		return SocketMemory{}, err
	}
	defer s.close()
	rest(ctx, settle)
	after, err := t.process.usage()
	return SocketMemory{Via: t.name, Sockets: n, Bytes: (after.resident - before.resident) / int64(n)}, err
}

// secureMemory is socketMemory of a proxy that serves https.
func secureMemory(ctx context.Context, cfg *ProxyConfig, nc *nats.Conn, dir, name string, direct target) (SocketMemory, error) {
	certFile, keyFile, err := makeCertificate(dir, direct.host)
	if err != nil {
		return SocketMemory{}, err
	}
	px, through, err := startProxy(ctx, cfg, nc, name, direct, "--cert-file="+certFile, "--key-file="+keyFile)
	if err != nil {
		return SocketMemory{}, err
	}
	defer px.stop()
	return socketMemory(ctx, &through, cfg.Sockets, min(settle, cfg.Duration))
}

func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
