package cli

import (
	"strconv"

	"github.com/jetway-project/jetway/messages"
)

// statusCmd is `jetway status`.
type statusCmd struct {
	clientFlags
	which
}

// Run shows one backend.
func (c *statusCmd) Run(r *run) error {
	nc, err := c.which.open(r, &c.clientFlags)
	if err != nil {
		return err
	}
	defer nc.Close()
	info, err := ask[messages.BackendInfo](r, &c.clientFlags, nc, messages.SubjectStatus, messages.StatusRequest{BackendID: c.Backend})
	if err != nil {
		return err
	}
	if c.JSON {
		return r.printIndented(info)
	}
	now := r.now()
	r.facts("backend", info.BackendID,
		"key", info.Key.Name, "namespace", info.Key.Namespace, "tag", info.Key.Tag,
		"status", statusText(&info)+" for "+age(now.Sub(info.ChangedAt)),
		"", stateText(info.State),
		"age", age(now.Sub(info.CreatedAt)),
		"drone", info.Drone, "cluster", info.Cluster, "pool", info.Pool, "subdomain", info.Subdomain, "template", info.Template,
		"fencing", strconv.FormatInt(info.FencingToken, 10))
	r.facts(aboutText(&info, now)...)
	return nil
}
