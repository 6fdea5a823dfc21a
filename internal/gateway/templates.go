package gateway

import (
	"encoding/json"
	"strconv"

	"github.com/jetway-project/jetway/messages"
)

type revisionQuery struct {
	Revision int64 `query:"revision" minimum:"1" description:"Delete that revision only: of another one nothing becomes, and the answer is TemplateChanged"`
}

// templatePath is a parameter in paths.
type templatePath struct {
	Template string `path:"template" description:"Name of the template" maxLength:"45" pattern:"^[a-z0-9-]+$"`
}

func (c *call) templates() (any, error) {
	page, err := pageOf(c.r.URL.Query())
	if err != nil {
		return nil, err
	}
	return ask[messages.ListTemplatesResponse](c, messages.SubjectTemplateList, messages.ListTemplatesRequest{Page: page})
}

func (c *call) template() (any, error) {
	reply, err := c.pass(messages.SubjectTemplateGet, messages.Encode(messages.TemplateRequest{Name: c.r.PathValue("template")}))
	return json.RawMessage(reply), err
}

func (c *call) deleteTemplate() (any, error) {
	req := messages.TemplateRequest{Name: c.r.PathValue("template")}
	if text := c.r.URL.Query().Get("revision"); text != "" {
		var err error
		if req.Revision, err = strconv.ParseInt(text, 10, 64); err != nil || req.Revision < 1 {
			return nil, messages.Errorf(messages.BadRequest, "revision: must be a whole number from 1 on, not %.40q", text)
		}
	}
	reply, err := c.pass(messages.SubjectTemplateDelete, messages.Encode(req))
	return json.RawMessage(reply), err
}

// retry forgives a key of the asker's namespaces.
func (c *call) retry() (any, error) {
	if err := c.wantJSON(); err != nil {
		return nil, err
	}
	req, err := messages.Decode[messages.RetryRequest](c.body)
	if err != nil {
		return nil, err
	}
	if !c.who.sees(req.Key.Namespace) {
		return nil, messages.Errorf(Forbidden, "key.namespace: %.60q is not one of those of the token %q", req.Key.Namespace, c.who.name)
	}
	reply, err := c.pass(messages.SubjectRetry, c.body)
	return json.RawMessage(reply), err
}
