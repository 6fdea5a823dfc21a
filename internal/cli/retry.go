package cli

import (
	"github.com/jetway-project/jetway/messages"
)

// retryCmd is `jetway retry`.
type retryCmd struct {
	clientFlags
	Key       string `arg:"" help:"The key's name."`
	Namespace string `placeholder:"NAME" help:"Namespace of the key."`
}

// Help is part of jetway retry --help.
func (c *retryCmd) Help() string {
	return `A key rests when its backends have ended by themselves three times in a row, each within 10 s of being ready, or before: for 1 s, then 2, 4, and so on up to 5 minutes. Connects are refused with BackingOff until then. Mend the cause (jetway status --key KEY shows the last words), and the key may be started at once.

Example:
  jetway retry doc-1`
}

// Run forgives a key its failures.
func (c *retryCmd) Run(r *run) error {
	req := messages.RetryRequest{Key: messages.Key{Name: c.Key, Namespace: c.Namespace}}
	if err := messages.CheckKey(req.Key); err != nil {
		return invalid(err)
	}
	nc, err := c.open(r)
	if err != nil {
		return err
	}
	defer nc.Close()
	reply, err := ask[messages.RetryResponse](r, &c.clientFlags, nc, messages.SubjectRetry, req)
	if err != nil {
		return err
	}
	switch {
	case c.JSON:
		return r.printIndented(reply)
	case reply.Forgiven == 0:
		r.printf("%s had no failures; it may be started\n", keyText(req.Key))
	default:
		r.printf("%s is forgiven %d failures in a row, and may be started\n", keyText(req.Key), reply.Forgiven)
	}
	return nil
}
