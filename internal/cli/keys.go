package cli

import (
	"strconv"
	"time"

	"github.com/jetway-project/jetway/messages"
)

// keysCmd is `jetway keys`.
type keysCmd struct {
	clientFlags
	Search    string              `arg:"" optional:"" placeholder:"TEXT" help:"List those whose names contain this."`
	Namespace *string             `placeholder:"NAME" help:"List those of a namespace."`
	Prefix    string              `placeholder:"TEXT" help:"List those whose names begin with this."`
	State     []messages.KeyState `placeholder:"STATE" enum:"live,asleep,dormant,backing-off" help:"List those in this state: live, asleep, dormant or backing-off; may be repeated."`
	Limit     int                 `placeholder:"N" help:"List at most so many. Default: all."`
}

// Help is part of jetway keys --help.
func (c *keysCmd) Help() string {
	return `A key is live while a backend holds it, and asleep while that backend sleeps. It is dormant for a while after its backend has ended, if it was connected with --resume: its URL, or a connect, starts it again. It backs off when its backends have failed several times in a row (jetway retry).

Examples:
  jetway keys doc                              all whose names contain doc
  jetway keys --namespace team-1 --state dormant
  jetway terminate --key doc-1 --forget        forget a dormant key`
}

// Run lists keys.
func (c *keysCmd) Run(r *run) error {
	req := messages.KeysRequest{Namespace: c.Namespace, Prefix: c.Prefix, Search: c.Search, States: c.State}
	if c.Limit < 0 {
		return usagef("--limit: must be 1 or more, not %d", c.Limit)
	}
	if _, err := messages.Decode[messages.KeysRequest](messages.Encode(req)); err != nil {
		return invalid(err)
	}
	nc, err := c.open(r)
	if err != nil {
		return err
	}
	defer nc.Close()
	list := []messages.KeyInfo{}
	for more := true; more && (c.Limit == 0 || len(list) < c.Limit); {
		if c.Limit > 0 {
			req.Limit = min(c.Limit-len(list), messages.MaxPage)
		}
		page, err := ask[messages.KeysResponse](r, &c.clientFlags, nc, messages.SubjectKeys, req)
		if err != nil {
			return err
		}
		list = append(list, page.Keys...)
		req.After, more = page.Next, page.Next != nil
	}
	if c.JSON {
		return r.printIndented(list)
	}
	rows := make([][]string, len(list))
	for i := range list {
		k := &list[i]
		rows[i] = []string{keyText(k.Key), string(k.State), age(r.now().Sub(k.Since)), k.BackendID, k.Drone, keyRest(k, r.now())}
	}
	r.table([]string{"KEY", "STATE", "FOR", "BACKEND", "DRONE", ""}, rows)
	return nil
}

// keyRest is what there is to say of a key beside its state.
func keyRest(k *messages.KeyInfo, now time.Time) string {
	text := ""
	if k.DormantUntil != nil {
		text = "dormant for another " + age(k.DormantUntil.Sub(now))
	}
	if c := k.Crashes; c != nil {
		if text != "" {
			text += ", "
		}
		text += strconv.Itoa(c.InARow) + " failures in a row"
		if c.RetryAfterMS > 0 {
			text += ", rests for " + age(time.Duration(c.RetryAfterMS)*time.Millisecond)
		}
		if c.LastWords != "" {
			text += ": " + c.LastWords
		}
	}
	return oneLine(text)
}
