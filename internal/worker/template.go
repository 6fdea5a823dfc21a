package worker

import (
	"cmp"
	"context"

	"github.com/jetway-project/jetway/messages"
)

var errTemplatesOnly = messages.Errorf(messages.Forbidden,
	"spawn_config.executable: these workers run templates alone (--templates-only): name one in spawn_config.template instead")

// putTemplate makes or changes a template. One that names no cluster is of the worker's default one from then on, whatever another
// worker has as its own.
func (w *worker) putTemplate(ctx context.Context, data []byte) (any, error) {
	t, err := messages.Decode[messages.Template](data)
	if err != nil {
		return nil, err
	}
	if t.Cluster = cmp.Or(t.Cluster, w.cfg.DefaultCluster); t.Cluster == "" {
		return nil, messages.Errorf(messages.NoClusterProvided, "the template names no cluster, and the worker has no default one")
	}
	done, err := w.store.PutTemplate(ctx, &t)
	if err != nil {
		return nil, err
	}
	if done.Revision != done.Replaced {
		w.log.Info("template put", "template", t.Name, "revision", done.Revision, "replaced", done.Replaced, "cluster", t.Cluster, "pool", t.Pool, "spares", t.Spares)
	}
	return done, nil
}

func (w *worker) getTemplate(ctx context.Context, data []byte) (any, error) {
	r, err := messages.Decode[messages.TemplateRequest](data)
	if err != nil {
		return nil, err
	}
	info, ok, err := w.store.Template(ctx, r.Name)
	if err == nil && !ok {
		return nil, w.noTemplate(ctx, r.Name)
	}
	return info, err
}

func (w *worker) deleteTemplate(ctx context.Context, data []byte) (any, error) {
	r, err := messages.Decode[messages.TemplateRequest](data)
	if err != nil {
		return nil, err
	}
	ok, err := w.store.DeleteTemplate(ctx, r.Name, r.Revision)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, w.noTemplate(ctx, r.Name)
	}
	w.log.Info("template deleted", "template", r.Name)
	return messages.Empty{}, nil
}

func (w *worker) noTemplate(ctx context.Context, name string) error {
	names, err := w.store.TemplateNames(ctx)
	if err != nil {
		return err
	}
	return messages.NoTemplate(name, names)
}

func (w *worker) listTemplates(ctx context.Context, data []byte) (any, error) {
	r, err := messages.Decode[messages.ListTemplatesRequest](data)
	if err != nil {
		return nil, err
	}
	page, err := w.store.ListTemplates(ctx, &r)
	if n := w.fitting(len(page.Templates), func(i int) any { return &page.Templates[i] }); n < len(page.Templates) {
		page.Templates, page.Next = page.Templates[:n], page.Templates[n-1].Name
	}
	return page, err
}

// templatesOfDrone tells a drone what it is to keep spares of.
func (w *worker) templatesOfDrone(ctx context.Context, drone string, data []byte) (any, error) {
	r, err := messages.Decode[messages.TemplatesRequest](data)
	if err != nil {
		return nil, err
	}
	templates, ok, err := w.store.TemplatesOfDrone(ctx, drone, r.Session)
	if err == nil && !ok {
		return nil, unknownSession(drone, r.Session)
	}
	return templates, err
}
