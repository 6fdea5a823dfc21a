package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/messages"
	jetwayclient "github.com/jetway-project/jetway/messages/client"
)

// revokeLoad is revocations.
const revokeLoad = "revoke"

// revocations is how many there are, one after another.
const revocations = 100

// Revocations says how long revocations took, from the request to the end of a
// WebSocket that was open with the token.
type Revocations struct {
	Count int `json:"count"`
	// In milliseconds.
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
}

// revoke opens WebSockets through a proxy, each as another user, and revokes one user's
// tokens after the other's.
func revoke(ctx context.Context, nc *nats.Conn, direct, through target) (*Revocations, error) {
	took := make([]time.Duration, 0, revocations)
	for i := range revocations {
		one, err := revokeOne(ctx, nc, "ada-"+strconv.Itoa(i), direct, through)
		if err != nil {
			return nil, fmt.Errorf("revoke: %w", err)
		}
		took = append(took, one)
	}
	slices.Sort(took)
	return &Revocations{Count: len(took), P50: percentile(took, 50), P99: percentile(took, 99)}, nil
}

func revokeOne(ctx context.Context, nc *nats.Conn, user string, direct, through target) (time.Duration, error) {
	resp, err := jetwayclient.Request[messages.ConnectResponse](ctx, nc, messages.SubjectConnect, messages.ConnectRequest{
		Key: &messages.Key{Name: "revoked"}, User: user,
		SpawnConfig: &messages.SpawnConfig{Cluster: direct.host, Executable: fake.Script{Address: direct.address}.Executable()},
	})
	if err != nil {
		return 0, err
	}
	through.prefix = "/" + resp.Token
	socket, err := openSocket(ctx, &through, ioTimeout)
	if err != nil {
		return 0, err
	}
	defer func() { _ = socket.conn.Close() }()
	if err := socket.echo(); err != nil {
		return 0, err
	}
	began := time.Now()
	if _, err := jetwayclient.Request[messages.RevokeResponse](ctx, nc, messages.SubjectRevoke, messages.RevokeRequest{BackendID: resp.BackendID, User: &user}); err != nil {
		return 0, err
	}
	n, err := socket.conn.Read(socket.buf)
	took := time.Since(began)
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case n > 0 && socket.buf[0] != frameClose || errors.Is(err, os.ErrDeadlineExceeded):
		return 0, fmt.Errorf("the WebSocket was not cut within %s", took)
	}
	return took, nil
}
