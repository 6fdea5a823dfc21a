package client

import (
	"context"
	"iter"

	"github.com/jetway-project/jetway/messages"
)

// PutTemplate makes a template or replaces it whole. One with a revision replaces that one only, and is else of the kind TemplateChanged: somebody else
// has changed it since. Templates are for operators.
func (c *Client) PutTemplate(ctx context.Context, t messages.Template) (messages.PutTemplateResponse, error) {
	return Request[messages.PutTemplateResponse](ctx, c.nc, messages.SubjectTemplatePut, t)
}

// Template gives a template, and what drones say of its spares.
func (c *Client) Template(ctx context.Context, name string) (messages.TemplateInfo, error) {
	return Request[messages.TemplateInfo](ctx, c.nc, messages.SubjectTemplateGet, messages.TemplateRequest{Name: name})
}

// Templates gives the templates by name, as [Client.List].
func (c *Client) Templates(ctx context.Context) iter.Seq2[messages.TemplateInfo, error] {
	var r messages.ListTemplatesRequest
	return pages(func() ([]messages.TemplateInfo, bool, error) {
		page, err := Request[messages.ListTemplatesResponse](ctx, c.nc, messages.SubjectTemplateList, r)
		r.After = page.Next
		return page.Templates, page.Next != "", err
	})
}

// DeleteTemplate deletes a template; what runs goes on. With a revision other than 0, it deletes that one only.
func (c *Client) DeleteTemplate(ctx context.Context, name string, revision int64) error {
	_, err := RequestRaw(ctx, c.nc, messages.SubjectTemplateDelete, messages.Encode(messages.TemplateRequest{Name: name, Revision: revision}))
	return err
}
