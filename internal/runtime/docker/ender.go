package docker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// Ender ends containers for who guards a drone, beside its agent: by their labels.
type Ender struct {
	host   string
	engine *client.Client
}

// NewEnder makes one for the engine at a URL, as in [Config]. It does not ask it anything yet.
func NewEnder(host string) (*Ender, error) {
	host = Config{Engine: host}.withDefaults().Engine
	engine, err := connect(host, new(atomic.Bool))
	return &Ender{host: host, engine: engine}, err
}

// Close lets go of the connection.
func (e *Ender) Close() error { return e.engine.Close() }

// Able says why the engine could not be asked to end a container now; nil if it could.
func (e *Ender) Able(ctx context.Context) error {
	_, err := e.engine.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true})
	if err != nil {
		return fmt.Errorf("docker host %s: %w", e.host, plain(err))
	}
	return nil
}

// alive are the states of containers of which something runs, or is frozen; stopping is Podman's word.
var alive = []container.ContainerState{container.StateRunning, container.StatePaused, container.StateRestarting, "stopping"}

// End kills the containers of a drone's backends, and says of which backends one ran. One that is
// being started, or that somebody starts again, is found by the next call. clusters are those that the backends were started in: a container that
// says another one is that of another stack's drone.
func (e *Ender) End(ctx context.Context, drone string, clusters map[string]string) (left []string, err error) {
	if err := e.Able(ctx); err != nil {
		return nil, err
	}
	labels := client.Filters{}.Add("label", labelDrone+"="+drone)
	list, err := e.engine.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: labels}) // else Podman leaves out what is paused
	if err != nil {
		return nil, fmt.Errorf("list the containers of the drone: %w", plain(err))
	}
	var errs []error
	for _, c := range list.Items {
		if !slices.Contains(alive, c.State) {
			continue
		}
		id := c.Labels[labelBackend]
		if cluster, wanted := clusters[id]; !wanted || (Config{Cluster: cluster}).others(c.Labels) {
			continue
		}
		left = append(left, id)
		err := sendSignal(ctx, e.engine, c.ID, "SIGKILL")
		if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) { // else it has ended
			errs = append(errs, fmt.Errorf("kill container %s: %w", c.ID, plain(err)))
		}
	}
	return left, errors.Join(errs...)
}
