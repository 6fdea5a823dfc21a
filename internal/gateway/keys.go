package gateway

import (
	"github.com/jetway-project/jetway/messages"
)

type keysQuery struct {
	Namespace string   `query:"namespace" description:"Only those of this namespace"`
	Prefix    string   `query:"prefix" description:"Only those whose names begin with this"`
	Search    string   `query:"search" description:"Only those whose names contain this"`
	State     []string `query:"state" description:"Only those in one of these: live, asleep, dormant, backing-off"`
	After     string   `query:"after" description:"The name of the last key of the page before"`
	AfterIn   string   `query:"after_namespace" description:"And its namespace"`
	Limit     int      `query:"limit" minimum:"1" maximum:"200" description:"At most so many"`
}

// keys lists a page. Who sees some namespaces alone says which he means: so neither a key of another's nor its place among them is told.
func (c *call) keys() (any, error) {
	query := c.r.URL.Query()
	page, err := pageOf(query)
	if err != nil {
		return nil, err
	}
	req := messages.KeysRequest{Prefix: query.Get("prefix"), Search: query.Get("search"), Limit: page.Limit}
	namespace := query.Get("namespace")
	switch {
	case query.Has("namespace"):
		req.Namespace = &namespace
	case len(c.who.namespaces) == 1:
		req.Namespace = &c.who.namespaces[0]
	}
	switch {
	case c.who.namespaces == nil:
	case req.Namespace == nil:
		return nil, messages.Errorf(messages.BadRequest, "namespace: say which one, for the token %q sees several", c.who.name)
	case !c.who.sees(*req.Namespace):
		return nil, messages.Errorf(Forbidden, "namespace: %.60q is not one of those of the token %q", *req.Namespace, c.who.name)
	}
	for _, state := range query["state"] {
		req.States = append(req.States, messages.KeyState(state))
	}
	if page.After != "" {
		req.After = &messages.Key{Name: page.After, Namespace: query.Get("after_namespace")}
	}
	return ask[messages.KeysResponse](c, messages.SubjectKeys, req)
}
