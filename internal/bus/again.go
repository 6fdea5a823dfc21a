package bus

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages/client"
)

// againAfter is how soon a request is sent once more: who answers at all has mostly done so by then.
const againAfter = 500 * time.Millisecond

// RequestAgain is [client.Request], sent once more while no answer comes: after half a second, and after twice as long each
// further time. The first answer counts, to whichever it is.
//
// NATS gives each request to one of the workers, at random, and one of them may be gone without NATS' knowing, for as long as it takes to miss it
// (ping_interval, ping_max). What is asked once is then lost as often as not, and a lease with it (I6). It is for requests that may be answered
// twice, and late: whose answers, and what they are about, say by themselves what they are newer than.
func RequestAgain[Resp any](ctx context.Context, nc *nats.Conn, subject string, req any) (Resp, error) {
	type answer struct {
		resp Resp
		err  error
	}
	pause := againAfter
	ctx, cancel := context.WithCancel(ctx)
	var asked sync.WaitGroup
	defer asked.Wait()
	defer cancel()
	first := make(chan answer, 1)
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case a := <-first:
			return a.resp, a.err
		case <-again.C:
			asked.Go(func() {
				resp, err := client.Request[Resp](ctx, nc, subject, req)
				select {
				case first <- answer{resp, err}:
				default:
				}
			})
			again.Reset(pause)
			pause *= 2
		}
	}
}
