package docker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"

	"github.com/jetway-project/jetway/internal/runtime"
)

// tellEvery is how often, at most, a pull's progress is told.
const tellEvery = time.Second

// pulls are the pulls under way.
type pulls struct {
	r *Runtime

	mu    sync.Mutex
	under map[pullKey]*pull
}

// pullKey says which requests are one pull: others have other rights.
type pullKey struct {
	ref         string
	credentials credentials
}

// pull is one pull and those who wait for it. It ends when it is done, or when nobody
// waits any more.
type pull struct {
	progress progress
	cancel   context.CancelFunc
	waiting  int // guarded by pulls.mu
	done     chan struct{}
	err      error // written before done is closed
}

// pull pulls an image, or waits for a pull of it that is under way.
func (p *pulls) pull(ctx context.Context, spec runtime.Spec, c command) error {
	if _, ok := c.ref.(reference.Named); !ok {
		return fmt.Errorf("image %q is not on the drone's machine, and an id cannot be pulled; give a name", c.Image)
	}
	key := pullKey{ref: c.ref.String()}
	if c.Credentials != nil {
		key.credentials = *c.Credentials
	}
	one, err := p.join(key)
	if err != nil {
		return err
	}
	defer p.leave(key, one)
	began := time.Now()
	tell := func(text string) {
		if spec.Progress != nil {
			spec.Progress(text)
		}
		if spec.Log != nil {
			spec.Log(runtime.Line{Time: time.Now(), Stream: runtime.Notice, Text: text})
		}
	}
	told := one.progress.text(c)
	tell(told)
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-one.done:
			if one.err != nil {
				return fmt.Errorf("pull image %q: %w; check the name, and the credentials if its registry wants some", c.Image, one.err)
			}
			tell(fmt.Sprintf("pulled %s in %s", c.Image, time.Since(began).Round(time.Millisecond)))
			return nil
		case <-ctx.Done():
			return fmt.Errorf("pull image %q: %w", c.Image, context.Cause(ctx))
		case <-tick.C:
			if text := one.progress.text(c); text != told {
				told = text
				tell(text)
			}
		}
	}
}

// join begins a pull, or joins the one under way.
func (p *pulls) join(key pullKey) (*pull, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if one := p.under[key]; one != nil {
		one.waiting++
		return one, nil
	}
	ctx, cancel := context.WithCancel(p.r.ctx)
	one := &pull{cancel: cancel, waiting: 1, done: make(chan struct{})}
	begun := p.r.goOn(func() {
		one.err = p.r.pullImage(ctx, key, &one.progress)
		p.forget(key, one)
		cancel()
		close(one.done)
	})
	if !begun {
		cancel()
		return nil, runtime.ErrClosed
	}
	if p.under == nil {
		p.under = map[pullKey]*pull{}
	}
	p.under[key] = one
	return one, nil
}

// leave ends a pull that nobody waits for. Who comes later begins another.
func (p *pulls) leave(key pullKey, one *pull) {
	p.mu.Lock()
	one.waiting--
	last := one.waiting == 0
	if last && p.under[key] == one {
		delete(p.under, key)
	}
	p.mu.Unlock()
	if last {
		one.cancel()
	}
}

func (p *pulls) forget(key pullKey, one *pull) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.under[key] == one {
		delete(p.under, key)
	}
}

// pullImage pulls one image.
func (r *Runtime) pullImage(ctx context.Context, key pullKey, progress *progress) error {
	var options client.ImagePullOptions
	if key.credentials != (credentials{}) {
		auth, err := authconfig.Encode(registry.AuthConfig{
			Username: string(key.credentials.Username),
			Password: string(key.credentials.Password),
		})
		if err != nil {
			return errors.New("the credentials cannot be encoded") // without err, which may show them
		}
		options.RegistryAuth = auth
	}
	before, _ := r.engine.ImageInspect(ctx, key.ref)
	answer, err := r.engine.ImagePull(ctx, key.ref, options)
	if err != nil {
		return plain(err)
	}
	defer answer.Close()
	for message, err := range answer.JSONMessages(ctx) {
		if err != nil {
			return fmt.Errorf("read Docker's answer: %w", err)
		}
		if message.Error != nil {
			return errors.New(message.Error.Message)
		}
		progress.add(message)
	}
	image, err := r.engine.ImageInspect(ctx, key.ref)
	if err != nil {
		return fmt.Errorf("look for the pulled image: %w", plain(err))
	}
	if image.ID == before.ID {
		r.images.used(image.ID, "")
		return nil
	}
	r.images.used(image.ID, key.ref)
	r.images.save()
	return nil
}
