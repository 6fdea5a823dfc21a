package cli

import (
	"fmt"

	"github.com/jetway-project/jetway/messages"
)

// revokeCmd is `jetway revoke`.
type revokeCmd struct {
	clientFlags
	which
	User  *string `placeholder:"NAME" help:"Revoke all tokens of this user; \"\" is the user of connects that named none."`
	Token string  `placeholder:"TOKEN" help:"Revoke this token: the random part of a link."`
}

// noToken is the error where there was no such token to revoke.
func (c *revokeCmd) noToken() error {
	what := "no such token of " + c.Backend
	if c.User != nil {
		what += fmt.Sprintf(" is the user %q's", *c.User)
	}
	return &failure{
		what: what + " is valid any more, if it ever was", kind: string(messages.NotFound),
		do: "give the whole token, as it stands in the link; --user revokes all of a user", code: ExitFailed,
	}
}

// Help is part of jetway revoke --help.
func (c *revokeCmd) Help() string {
	return `The backend goes on, and other links to it work.

Example:
  jetway revoke --key doc-1 --user ada`
}

// Run revokes tokens.
func (c *revokeCmd) Run(r *run) error {
	if c.User == nil && c.Token == "" {
		return usagef("--user or --token: say what to revoke")
	}
	nc, err := c.which.open(r, &c.clientFlags)
	if err != nil {
		return err
	}
	defer nc.Close()
	resp, err := ask[messages.RevokeResponse](r, &c.clientFlags, nc, messages.SubjectRevoke,
		messages.RevokeRequest{BackendID: c.Backend, User: c.User, Token: c.Token})
	switch {
	case err != nil:
		return err
	case resp.Revoked == 0 && c.Token != "":
		return c.noToken()
	case c.JSON:
		return r.printIndented(resp)
	case resp.Revoked == 1:
		r.printf("revoked 1 token of %s\n", c.Backend)
	default:
		r.printf("revoked %d tokens of %s\n", resp.Revoked, c.Backend)
	}
	return nil
}
