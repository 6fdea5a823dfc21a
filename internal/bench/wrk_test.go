package bench

import (
	"testing"
	"time"
)

// What wrk says is understood, what went wrong included.
func TestWrkIsRead(t *testing.T) {
	r, err := readWrk(`Running 2s test @ http://127.0.0.1:1/small
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.31ms    3.10ms  49.11ms   88.19%
    Req/Sec    43.53k     5.81k   56.26k    70.00%
  Latency Distribution
     50%  705.00us
     75%    3.21ms
     90%    6.26ms
     99%   14.03ms
  87015 requests in 2.01s, 13.44MB read
  Socket errors: connect 0, read 3, write 0, timeout 1
  Non-2xx or 3xx responses: 5
Requests/sec:  43311.64
Transfer/sec:      6.69MB
`)
	want := wrkRound{
		elapsed: 2010 * time.Millisecond, count: 87015, wrong: 9, p50: 705 * time.Microsecond, p99: 14030 * time.Microsecond,
		trouble: "Socket errors: connect 0, read 3, write 0, timeout 1 Non-2xx or 3xx responses: 5",
	}
	if err != nil || r != want {
		t.Errorf("read %+v, %v", r, err)
	}
	if _, err := readWrk("unable to connect"); err == nil {
		t.Error("nonsense is understood")
	}
	f, failed, _ := wrkFigures([]wrkRound{r, {elapsed: 1990 * time.Millisecond, count: 12985, p50: time.Second, p99: 2 * time.Second}, {p50: 1, p99: 2}})
	if f.Count != 100000 || f.Rate != 25000 || failed != 9 || f.P50 != 0.705 {
		t.Errorf("%+v, %d failed", f, failed)
	}
}
