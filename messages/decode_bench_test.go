package messages_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/jetway-project/jetway/messages"
)

// BenchmarkDecodeBesideEncodingJSON measures reading a payload, with all that is refused, beside what encoding/json takes for the
// same bytes and type, which refuses less and validates nothing. The two take turns, and who comes first changes; the ratio is the median
// of the turns'. It says nothing where b.N is small: -benchtime 20000x.
func BenchmarkDecodeBesideEncodingJSON(b *testing.B) {
	b.Run("connect_request", func(b *testing.B) { beside(b, messages.Decode[messages.ConnectRequest]) })
	b.Run("report_request", func(b *testing.B) { beside(b, messages.Decode[messages.ReportRequest]) })
	b.Run("heartbeat_request", func(b *testing.B) { beside(b, messages.Decode[messages.HeartbeatRequest]) })
	b.Run("event_state", func(b *testing.B) { beside(b, messages.Decode[messages.StateEvent]) })
	b.Run("action_spawn", func(b *testing.B) { beside(b, messages.Decode[messages.Action]) })
}

func beside[T any](b *testing.B, decode func([]byte) (T, error)) {
	b.Helper()
	name := b.Name()[len("BenchmarkDecodeBesideEncodingJSON/"):]
	data := messages.Encode(golden[name])
	const turn = 100
	each := func(read func() error) time.Duration {
		began := time.Now()
		for range turn {
			if err := read(); err != nil {
				b.Fatal(err)
			}
		}
		return time.Since(began)
	}
	ours := func() time.Duration { return each(func() error { _, err := decode(data); return err }) }
	theirs := func() time.Duration { return each(func() error { return json.Unmarshal(data, new(T)) }) }
	var ratios []float64
	for n := range max(b.N/turn, 1) {
		var a, c time.Duration
		if n%2 == 0 {
			a, c = ours(), theirs()
		} else {
			c, a = theirs(), ours()
		}
		ratios = append(ratios, float64(a)/float64(c))
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "of-encoding/json")
	b.ReportMetric(ratios[len(ratios)/4], "of-encoding/json-p25")
	b.ReportMetric(ratios[3*len(ratios)/4], "of-encoding/json-p75")
}
