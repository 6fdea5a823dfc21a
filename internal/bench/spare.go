package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jetway-project/jetway/messages"
	sessions "github.com/jetway-project/jetway/messages/client"
)

const (
	// BySpare claims a spare that was started ahead.
	BySpare = "jetway, a spare"
	// StartSlow is a process that takes a second until it listens.
	StartSlow = "process that loads for 1 s"
	loadFor   = "1s"
	// refillTimeout bounds the wait for spares. Only a hang meets it.
	refillTimeout = 10 * time.Minute
)

// spares adds how a drone of the bench starts what is to be run from a spare, and from so many spares at once.
func (s *starter) spares(kinds []*startKind, what, runtime string, executable any) ([]*startKind, error) {
	raw, err := json.Marshal(executable)
	if err != nil {
		return nil, err
	}
	template := messages.Template{
		Name: fmt.Sprintf("bench-%d-%s", len(s.templates), s.run), Cluster: runtime + "-" + cluster(s.run), Executable: raw, ClaimPath: "/claim", Spares: 1,
	}
	drone := s.drones[len(s.drones)-1]
	s.templates = append(s.templates, template.Name)
	asked := int64(0)
	one := &startKind{what: what, by: BySpare, start: func(ctx context.Context) (startTimes, error) {
		if err := s.keep(ctx, &template, asked); err != nil {
			return startTimes{}, err
		}
		asked++
		took, err := s.backend(ctx, drone, messages.SpawnConfig{Cluster: template.Cluster, Template: template.Name})
		return took, errors.Join(err, cold(took))
	}}
	return append(kinds, one), nil
}

// cold says that something was started, and not claimed.
func cold(took startTimes) error {
	if _, started := took.steps["starting"]; started {
		return errors.New("it was started cold, and not claimed")
	}
	return nil
}

// keep waits until the drone has the spares of a template that it is to keep, after so many were asked for.
func (s *starter) keep(ctx context.Context, template *messages.Template, asked int64) error {
	ctx, cancel := context.WithTimeout(ctx, refillTimeout)
	defer cancel()
	if _, err := sessions.Request[messages.PutTemplateResponse](ctx, s.nc, messages.SubjectTemplatePut, template); err != nil {
		return fmt.Errorf("put a template: %w", err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		info, err := sessions.Request[messages.TemplateInfo](ctx, s.nc, messages.SubjectTemplateGet, messages.TemplateRequest{Name: template.Name})
		switch {
		case err != nil:
			return fmt.Errorf("ask for a template: %w", err)
		case info.SparesReady >= template.Spares && info.Claims+info.Misses >= asked: // which the drone says together
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d spares are ready: %w: %s", info.SparesReady, template.Spares, ctx.Err(), info.Error)
		}
	}
}

// atOnce claims many spares at once.
func (s *starter) atOnce(ctx context.Context, what, runtime string, executable any) (f StartFigures, err error) {
	raw, err := json.Marshal(executable)
	if err != nil {
		return f, err
	}
	template := messages.Template{
		Name: fmt.Sprintf("bench-%d-%s", len(s.templates), s.run), Cluster: runtime + "-" + cluster(s.run), Executable: raw, ClaimPath: "/claim", Spares: s.cfg.AtOnce,
	}
	s.templates = append(s.templates, template.Name)
	if err := s.keep(ctx, &template, 0); err != nil {
		return f, err
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var took []time.Duration
	var failed error
	for range s.cfg.AtOnce {
		wg.Go(func() {
			one, oneErr := s.backend(ctx, s.drones[0], messages.SpawnConfig{Cluster: template.Cluster, Template: template.Name})
			mu.Lock()
			defer mu.Unlock()
			took, failed = append(took, one.all), errors.Join(failed, oneErr, cold(one))
		})
	}
	wg.Wait()
	slices.Sort(took)
	err = errors.Join(failed, s.forget(ctx, template.Name))
	return StartFigures{What: fmt.Sprintf("%d at once: %s", s.cfg.AtOnce, what), By: BySpare, Count: len(took), P50: percentile(took, 50), P99: percentile(took, 99)}, err
}

// forget deletes templates.
func (s *starter) forget(ctx context.Context, names ...string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
	defer cancel()
	var errs []error
	for _, name := range names {
		_, err := sessions.Request[messages.Empty](ctx, s.nc, messages.SubjectTemplateDelete, messages.TemplateRequest{Name: name})
		if messages.KindOf(err) != messages.NotFound {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
