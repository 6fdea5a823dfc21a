package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/messages"
)

var (
	putTemplateSQL      = statement("put_template")
	deleteTemplateSQL   = statement("delete_template")
	templatesSQL        = statement("templates")
	templatesOfDroneSQL = statement("templates_of_drone")
	listTemplatesSQL    = statement("list_templates")
	templateDronesSQL   = statement("template_drones")
	spareCountsSQL      = statement("spare_counts")
)

// oneChangesTemplatesSQL has those who change templates take turns: what the next statement of the transaction sees, nobody
// else changes before it commits.
const oneChangesTemplatesSQL = `select from setting for no key update`

const templateNamesSQL = `select name from template order by name`

// PutTemplate makes or changes a template, unless that would change nothing. It refuses what goes beyond how much there may be of templates,
// and with TemplateChanged one that has another revision by now than the one that is given.
func (s *Store) PutTemplate(ctx context.Context, t *messages.Template) (done messages.PutTemplateResponse, err error) {
	var executable bytes.Buffer // without spaces, so that those alone are no change
	if err := json.Compact(&executable, t.Executable); err != nil {
		return done, fmt.Errorf("put a template: %w", err)
	}
	var word string
	err = again(ctx, func() error {
		b := &pgx.Batch{} // one transaction
		b.Queue(oneChangesTemplatesSQL)
		b.Queue(putTemplateSQL, t.Name, t.Cluster, t.Pool, executable.String(), t.LifetimeLimitSeconds, t.MaxIdleSeconds, t.Spares, t.ClaimPath,
			t.Revision, messages.MaxAllTemplates, messages.MaxTemplates, messages.MaxExecutable, messages.MaxAllExecutables).QueryRow(func(row pgx.Row) error {
			return row.Scan(&word, &done.Revision, &done.Replaced, &done.Drones)
		})
		return s.pool.SendBatch(ctx, b).Close()
	})
	if err != nil {
		return done, wrap("put a template", err)
	}
	switch word {
	case "changed":
		return done, templateChanged(t.Name, done.Replaced, t.Revision)
	case "too many":
		return done, messages.Errorf(messages.BadRequest, "name: there are %d templates, and there may be no more: delete one that nobody needs", messages.MaxAllTemplates)
	case "too many with spares":
		return done, messages.Errorf(messages.BadRequest, "spares: %d templates of cluster %q and pool %q keep spares, and no more may: keep none of one of them, or use another pool",
			messages.MaxTemplates, t.Cluster, t.Pool)
	case "too large in all":
		return done, messages.Errorf(messages.BadRequest, "executable: those of all templates would have more than %d bytes together: delete a template that nobody needs", messages.MaxAllExecutables)
	case "too large":
		return done, messages.Errorf(messages.BadRequest, "executable: those of the templates of cluster %q and pool %q that keep spares would have more than %d bytes together: a drone is told all of them in one message",
			t.Cluster, t.Pool, messages.MaxExecutable)
	}
	return done, nil
}

func templateChanged(name string, is, given int64) error {
	if is == 0 {
		return messages.Errorf(messages.TemplateChanged, "template %q is not there any more: it was deleted since revision %d. Leave the revision out to make it anew", name, given)
	}
	return messages.Errorf(messages.TemplateChanged, "template %q has revision %d by now, not %d: somebody else changed it. Get it, and change that", name, is, given)
}

// DeleteTemplate deletes a template; ok is false when there is none. One that has another revision by now than the one that is given, if not 0,
// stays: TemplateChanged.
func (s *Store) DeleteTemplate(ctx context.Context, name string, revision int64) (ok bool, err error) {
	var was int64
	var gone bool
	err = again(ctx, func() error {
		b := &pgx.Batch{} // one transaction
		b.Queue(oneChangesTemplatesSQL)
		b.Queue(deleteTemplateSQL, name, revision).QueryRow(func(row pgx.Row) error {
			err := row.Scan(&was, &gone)
			if ok = err == nil; errors.Is(err, pgx.ErrNoRows) {
				return nil
			}
			return err
		})
		return s.pool.SendBatch(ctx, b).Close()
	})
	if err == nil && ok && !gone {
		return true, templateChanged(name, was, revision)
	}
	return ok, wrap("delete a template", err)
}

// toTemplate is where the columns of a template go.
func toTemplate(t *messages.Template, executable *string) []any {
	return []any{&t.Name, &t.Cluster, &t.Pool, executable, &t.LifetimeLimitSeconds, &t.MaxIdleSeconds, &t.Spares, &t.ClaimPath, &t.Revision}
}

func scanTemplate(row pgx.CollectableRow) (t messages.Template, err error) {
	var executable string
	err = row.Scan(toTemplate(&t, &executable)...)
	t.Executable = json.RawMessage(executable)
	return t, err
}

// Templates gives those of the names that there are (lease.Store).
func (s *Store) Templates(ctx context.Context, names []string) ([]messages.Template, error) {
	list, err := read(ctx, s, scanTemplate, templatesSQL, names)
	return list, wrap("read templates", err)
}

// TemplateNames gives all names, in order (lease.Store).
func (s *Store) TemplateNames(ctx context.Context) ([]string, error) {
	names, err := read(ctx, s, pgx.RowTo[string], templateNamesSQL)
	return names, wrap("read the names of templates", err)
}

// TemplatesOfDrone gives the templates that a drone is to keep spares of; ok is false where the session is not the drone's.
func (s *Store) TemplatesOfDrone(ctx context.Context, drone, session string) (resp messages.TemplatesResponse, ok bool, err error) {
	list, err := read(ctx, s, func(row pgx.CollectableRow) (t messages.Template, err error) {
		var name, cluster, pool, executable, claimPath *string
		var spares *int
		var revision *int64
		err = row.Scan(&resp.Revision, &name, &cluster, &pool, &executable, &t.LifetimeLimitSeconds, &t.MaxIdleSeconds, &spares, &claimPath, &revision)
		if err == nil && name != nil {
			t.Name, t.Cluster, t.Pool, t.Executable = *name, *cluster, *pool, json.RawMessage(*executable)
			t.Spares, t.ClaimPath, t.Revision = *spares, *claimPath, *revision
		}
		return t, err
	}, templatesOfDroneSQL, drone, session)
	ok = len(list) > 0
	if ok && list[0].Name == "" {
		list = list[:0]
	}
	resp.Templates = append([]messages.Template{}, list...)
	return resp, ok, wrap("read the templates of a drone", err)
}

// Template gives one template and what drones say of it; ok is false where there is none.
func (s *Store) Template(ctx context.Context, name string) (info messages.TemplateInfo, ok bool, err error) {
	list, err := read(ctx, s, scanTemplateInfo, listTemplatesSQL, "", 1, s.Terms().TTL.Seconds(), name)
	if err != nil || len(list) == 0 {
		return info, false, wrap("read a template", err)
	}
	info = list[0]
	info.Drones, err = read(ctx, s, func(row pgx.CollectableRow) (d messages.TemplateDrone, err error) {
		d.Template = name
		err = row.Scan(&d.Drone, &d.Revision, &d.Ready, &d.Starting, &d.Claims, &d.Misses, &d.Error)
		return d, err
	}, templateDronesSQL, name, s.Terms().TTL.Seconds(), messages.MaxPage+1)
	if info.MoreDrones = len(info.Drones) > messages.MaxPage; info.MoreDrones {
		info.Drones = info.Drones[:messages.MaxPage]
	}
	return info, true, wrap("read the spares of a template", err)
}

func scanTemplateInfo(row pgx.CollectableRow) (t messages.TemplateInfo, err error) {
	var executable string
	err = row.Scan(append(toTemplate(&t.Template, &executable), &t.ChangedAt, &t.SparesReady, &t.SparesStarting, &t.Claims, &t.Misses, &t.Error)...)
	t.Executable = json.RawMessage(executable)
	return t, err
}

// ListTemplates gives a page of templates, by name, and where the next begins.
func (s *Store) ListTemplates(ctx context.Context, r *messages.ListTemplatesRequest) (messages.ListTemplatesResponse, error) {
	list, err := read(ctx, s, scanTemplateInfo, listTemplatesSQL, r.After, r.Limit+1, s.Terms().TTL.Seconds(), "")
	resp := messages.ListTemplatesResponse{Templates: append([]messages.TemplateInfo{}, list...)}
	if len(list) > r.Limit {
		resp.Templates = resp.Templates[:r.Limit]
		resp.Next = resp.Templates[r.Limit-1].Name
	}
	return resp, wrap("list templates", err)
}

// SpareCounts are those of one template, of all drones that are heard.
type SpareCounts struct {
	Template        string
	Ready, Starting int
	Claims, Misses  int64
}

// SpareCounts gives them for all templates.
func (s *Store) SpareCounts(ctx context.Context) ([]SpareCounts, error) {
	counts, err := read(ctx, s, func(row pgx.CollectableRow) (c SpareCounts, err error) {
		err = row.Scan(&c.Template, &c.Ready, &c.Starting, &c.Claims, &c.Misses)
		return c, err
	}, spareCountsSQL, s.Terms().TTL.Seconds())
	return counts, wrap("count the spares", err)
}
