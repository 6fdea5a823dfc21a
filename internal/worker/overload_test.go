package worker

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jetway-project/jetway/messages"
)

// However many requests are refused for want of room, the log says so once a second, with their number.
func TestI8OverloadIsLoggedOnceASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		o := tally{what: "refused", log: slog.New(slog.NewTextHandler(&text, nil))}
		refuse := func(n int) {
			for range n {
				o.add("jetway.ctl.connect", "x", &messages.Error{Kind: messages.Overloaded, Message: "full"})
			}
		}
		for range 50 {
			refuse(100)
			<-time.After(110 * time.Millisecond) // ten in a second, and none just when it is over
		}
		synctest.Wait()
		if lines := strings.Count(text.String(), "\n"); lines < 4 || lines > 5 || !strings.Contains(text.String(), "requests=1000") {
			t.Errorf("5000 requests in 5 s are logged as\n%s", text.String())
		}
		o.say()
		text.Reset()
		refuse(7)
		o.say() // the worker ends
		if !strings.Contains(text.String(), "requests=7") {
			t.Errorf("the last are logged as %s", text.String())
		}
		o.say()
		<-time.After(time.Hour)
		if strings.Count(text.String(), "\n") != 1 {
			t.Errorf("the last are logged as\n%s", text.String())
		}
	})
}

// So it is with a database that is away, or not settled after a failover, which all requests meet until it is back.
func TestI8RequestsThatCannotBeSettledAreLoggedOnceASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		r := newReplier(nil, slog.New(slog.NewTextHandler(&text, nil)))
		for range 1000 {
			r.note("jetway.ctl.connect", &messages.Error{Kind: messages.Unavailable, ID: "x"}, errors.New("the database is away"))
		}
		<-time.After(sayEvery)
		synctest.Wait()
		if lines := strings.Count(text.String(), "\n"); lines != 1 || !strings.Contains(text.String(), "requests=1000") || !strings.Contains(text.String(), "the database is away") {
			t.Errorf("1000 requests are logged as\n%s", text.String())
		}
	})
}

// What waits is bounded by its bytes as well as by its number, until it is replied to, and the parts come to the one bound.
func TestI8ALaneRefusesMoreThanItsBytes(t *testing.T) {
	t.Parallel()
	l := newLane("test", 1<<16, 1, 1, func(context.Context, []*request) {})
	data := make([]byte, 300<<10)
	var taken []*request
	for {
		r := &request{data: data, arrived: time.Now()}
		if err := l.offer(r); err != nil {
			if messages.KindOf(err) != messages.Overloaded {
				t.Errorf("it is refused with %v", err)
			}
			r.leave()
			break
		}
		taken = append(taken, r)
	}
	if held := int64(len(taken)) * taken[0].size(); held > laneBytes || held < laneBytes-taken[0].size() || l.bytes.Load() != held {
		t.Errorf("%d requests of %d bytes wait, which count as %d, in a lane for %d", len(taken), taken[0].size(), l.bytes.Load(), laneBytes)
	}
	for _, r := range taken {
		r.leave()
		r.leave() // once is enough
	}
	if l.bytes.Load() != 0 {
		t.Errorf("an empty lane holds %d bytes", l.bytes.Load())
	}
	all := &lanes{operator: &lane{}, listing: &lane{}}
	sum := len(all.all()) * laneBytes
	for _, e := range all.endpoints() {
		sum += all.pending(e)
	}
	if sum > waitingBytes {
		t.Errorf("lanes and endpoints hold %d bytes, which is more than %d", sum, waitingBytes)
	}
}
