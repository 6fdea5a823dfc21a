package bus

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages/client"
)

// RequestAgain is [Request], sent once more whenever another fourth of its time has passed without an answer; the first answer
// counts. NATS gives each to one of the workers, at random, and one of them may be gone without its knowing, for as long as
// it takes to miss it (ping_interval, ping_max): what is asked once is then lost as often as not, and a lease with
// it (I6). It is for requests that may be answered twice. ctx has a deadline.
func RequestAgain[Resp any](ctx context.Context, nc *nats.Conn, subject string, req any) (Resp, error) {
	const times = 4
	type answer struct {
		resp Resp
		err  error
	}
	answers := make(chan answer, times)
	var asked sync.WaitGroup
	defer asked.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ask := func() {
		asked.Go(func() {
			resp, err := client.Request[Resp](ctx, nc, subject, req)
			answers <- answer{resp, err}
		})
	}
	deadline, _ := ctx.Deadline()
	again := time.NewTicker(max(time.Until(deadline)/times, time.Millisecond))
	defer again.Stop()
	ask()
	for more := times - 1; ; {
		select {
		case a := <-answers:
			return a.resp, a.err
		case <-again.C:
			if more > 0 {
				more--
				ask()
			}
		}
	}
}
