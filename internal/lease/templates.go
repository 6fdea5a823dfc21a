package lease

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jetway-project/jetway/messages"
)

// rememberedBytes is how many bytes of executables are remembered at most, about.
const rememberedBytes = 8 << 20

// templates are those that were read, by name. What is remembered may be another one by now, or gone: the statement that takes the
// lease asks whether the template still has the revision that was read, as it asks whether the drone still qualifies. So nobody
// is refused for what is remembered, only for what was read since he asked.
type templates struct {
	store Store

	mu    sync.Mutex
	known map[string]readTemplate
	bytes int
}

// readTemplate is a template as it was read.
type readTemplate struct {
	messages.Template
	at time.Time
}

// get gives those of the names that there are: as they are remembered, and the others as they are read now.
func (t *templates) get(ctx context.Context, names []string) (map[string]readTemplate, error) {
	found := make(map[string]readTemplate, len(names))
	var unknown []string
	t.mu.Lock()
	for _, name := range names {
		if known, ok := t.known[name]; ok {
			found[name] = known
		} else {
			unknown = append(unknown, name)
		}
	}
	t.mu.Unlock()
	if len(unknown) == 0 {
		return found, nil
	}
	at := time.Now()
	list, err := t.store.Templates(ctx, unknown)
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range list {
		if t.known == nil || t.bytes > rememberedBytes {
			t.known, t.bytes = make(map[string]readTemplate), 0
		}
		read := readTemplate{list[i], at}
		t.bytes += len(read.Executable) - len(t.known[read.Name].Executable)
		t.known[read.Name], found[read.Name] = read, read
	}
	return found, err
}

func (t *templates) forget(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bytes -= len(t.known[name].Executable)
	delete(t.known, name)
}

// readTemplates finds, at once, those that the pending requests name.
func (b *batch) readTemplates(ctx context.Context, pending []int) {
	var names []string
	for _, i := range pending {
		if cfg, _, _ := b.configOf(i); cfg != nil && cfg.Template != "" && !slices.Contains(names, cfg.Template) {
			names = append(names, cfg.Template)
		}
	}
	if len(names) > 0 {
		b.read, b.readErr = b.templates.get(ctx, names)
	}
}

// readAgain reads the template of a request that cannot be granted anew. It says false where that was read since the batch began: then there
// is nothing new.
func (b *batch) readAgain(ctx context.Context, i int) bool {
	cfg, _, _ := b.configOf(i)
	if cfg == nil || cfg.Template == "" {
		return false
	}
	known, ok := b.read[cfg.Template]
	if !ok || !known.at.Before(b.began) {
		return false
	}
	b.templates.forget(cfg.Template)
	var now map[string]readTemplate
	if now, b.readErr = b.templates.get(ctx, []string{cfg.Template}); b.readErr != nil {
		return false
	}
	delete(b.read, cfg.Template)
	maps.Copy(b.read, now)
	return true
}

// resolve gives what a request asks for that names a template, as if it said it itself.
func (b *batch) resolve(ctx context.Context, asked *messages.SpawnConfig) (*messages.SpawnConfig, *messages.SpawnTemplate, error) {
	t, ok := b.read[asked.Template]
	switch {
	case !ok && b.readErr != nil:
		return nil, nil, b.readErr
	case !ok:
		return nil, nil, b.noTemplate(ctx, asked.Template)
	case asked.Cluster != "" && asked.Cluster != t.Cluster:
		return nil, nil, elsewhere("cluster", asked.Template, t.Cluster, asked.Cluster)
	case asked.Pool != "" && asked.Pool != t.Pool:
		return nil, nil, elsewhere("pool", asked.Template, t.Pool, asked.Pool)
	}
	cfg := *asked
	cfg.Cluster, cfg.Pool, cfg.Executable = t.Cluster, t.Pool, t.Executable
	if cfg.LifetimeLimitSeconds == nil {
		cfg.LifetimeLimitSeconds = t.LifetimeLimitSeconds
	}
	if cfg.MaxIdleSeconds == nil {
		cfg.MaxIdleSeconds = t.MaxIdleSeconds
	}
	if err := cfg.CheckSleepAfter(); err != nil {
		return nil, nil, err
	}
	return &cfg, &messages.SpawnTemplate{Name: t.Name, Revision: t.Revision, ClaimPath: t.ClaimPath}, nil
}

func elsewhere(field, template, is, asked string) error {
	return messages.Errorf(messages.BadRequest, "spawn_config.%s: template %q is of %s %q, not %q: leave it out, the template says it", field, template, field, is, asked)
}

// noTemplate says that there is no such template. The names of those that there are, are read at most once for each batch.
func (b *batch) noTemplate(ctx context.Context, name string) error {
	if b.names == nil {
		names, err := b.cfg.Store.TemplateNames(ctx)
		if err != nil {
			return err
		}
		b.names = append([]string{}, names...)
	}
	return messages.NoTemplate(name, b.names)
}
