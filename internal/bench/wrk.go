package bench

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// findWrk gives the load tool that asks for HTTP responses, "" with the reason where it cannot be used for rounds so short.
func findWrk(round time.Duration, turns int) (program, without string) {
	program, err := exec.LookPath("wrk")
	switch {
	case err != nil:
		return "", "wrk is not installed, so requests are made by the bench itself, which costs more than they do; install it: apt-get install wrk, or brew install wrk"
	case round < time.Second:
		return "", fmt.Sprintf("rounds of %s are too short for wrk, so requests are made by the bench itself; --duration %s is long enough", round, time.Duration(turns)*time.Second)
	}
	return program, ""
}

// wrkRound is what wrk said of one round. It knows latencies by these quantiles only.
type wrkRound struct {
	elapsed      time.Duration
	count, wrong int
	p50, p99     time.Duration
	trouble      string
}

var (
	wrkQuantile = regexp.MustCompile(`(?m)^\s+(50|99)(?:\.0+)?%\s+([0-9.]+)(us|ms|s|m)$`)
	wrkTotal    = regexp.MustCompile(`(?m)^\s+(\d+) requests in ([0-9.]+)(ms|s|m),`)
	wrkErrors   = regexp.MustCompile(`(?m)^\s+Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)$`)
	wrkStatus   = regexp.MustCompile(`(?m)^\s+Non-2xx or 3xx responses: (\d+)$`)
)

// runWrk has it ask for path on so many connections.
func runWrk(ctx context.Context, program string, t *target, path string, connections int, d time.Duration) (wrkRound, error) {
	cmd := exec.CommandContext(ctx, program, "--threads", "1", "--connections", strconv.Itoa(connections), "--latency",
		"--duration", strconv.Itoa(int((d+time.Second-1)/time.Second))+"s", "--timeout", "30s", "--header", "Host: "+t.host,
		"http://"+t.address+t.prefix+path)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return wrkRound{}, fmt.Errorf("wrk, %s: %w: %s", t.name, err, strings.TrimSpace(string(out)))
	}
	return readWrk(string(out))
}

func readWrk(out string) (r wrkRound, err error) {
	total := wrkTotal.FindStringSubmatch(out)
	quantiles := wrkQuantile.FindAllStringSubmatch(out, -1)
	if total == nil || len(quantiles) != 2 {
		return r, fmt.Errorf("wrk said what is not understood: %q", out)
	}
	r.count, _ = strconv.Atoi(total[1])
	var errs [3]error
	r.elapsed, errs[0] = time.ParseDuration(total[2] + total[3])
	r.p50, errs[1] = time.ParseDuration(quantiles[0][2] + quantiles[0][3])
	r.p99, errs[2] = time.ParseDuration(quantiles[1][2] + quantiles[1][3])
	for _, found := range [][]string{wrkErrors.FindStringSubmatch(out), wrkStatus.FindStringSubmatch(out)} {
		if found == nil {
			continue
		}
		for _, n := range found[1:] {
			wrong, _ := strconv.Atoi(n)
			r.wrong += wrong
		}
		r.trouble = strings.TrimSpace(r.trouble + " " + strings.TrimSpace(found[0]))
	}
	return r, errors.Join(errs[:]...)
}

// wrkFigures sums up rounds: of the quantiles, the median round's.
func wrkFigures(all []wrkRound) (f Figures, failed int, trouble string) {
	var elapsed time.Duration
	var p50, p99 []time.Duration
	for _, r := range all {
		elapsed += r.elapsed
		f.Count += r.count
		failed += r.wrong
		p50, p99 = append(p50, r.p50), append(p99, r.p99)
		if trouble == "" {
			trouble = r.trouble
		}
	}
	slices.Sort(p50)
	slices.Sort(p99)
	f.Rate = float64(f.Count) / elapsed.Seconds()
	f.P50, f.P99 = percentile(p50, 50), percentile(p99, 50)
	return f, failed, trouble
}
