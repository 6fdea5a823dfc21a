package lease

import (
	"context"

	"github.com/jetway-project/jetway/messages"
)

func idOf(key messages.Key) [2]string { return [2]string{key.Namespace, key.Name} }

// lookForDormant has a key that nobody holds be looked at once more, if somebody asks for it who does not say what to start; false when it was
// looked at, and is not dormant.
func (b *batch) lookForDormant(g *group) bool {
	// Of a request without a key it was a random one.
	if _, looked := b.dormant[idOf(g.key)]; looked || b.reqs[g.members[0]].Key == nil {
		return false
	}
	for _, err := range g.unled {
		if messages.KindOf(err) == messages.KeyUnheldNoSpawnConfig {
			b.look = append(b.look, g.key)
			return true
		}
	}
	return false
}

// lookAgain has what was read of a dormant key be read anew, for it was not acquired by that.
func (b *batch) lookAgain(g *group) {
	if g.spawn.GoesOn != "" {
		b.look = append(b.look, g.key)
	}
}

// readDormant reads what the keys are started with that are to be looked at.
func (b *batch) readDormant(ctx context.Context) {
	if len(b.look) == 0 {
		return
	}
	found, err := b.cfg.Store.Dormant(ctx, b.look)
	b.dormantErr = err
	if b.dormant == nil {
		b.dormant = make(map[[2]string]*Dormant)
	}
	for i, key := range b.look {
		b.dormant[idOf(key)] = nil
		if err == nil {
			b.dormant[idOf(key)] = found[i]
		}
	}
	b.look = nil
}

// configOf gives what request i would start: what it says itself, or what its key, which is dormant, was started with. goesOn is the last holder
// of that.
func (b *batch) configOf(i int) (cfg *messages.SpawnConfig, goesOn string, err error) {
	r := &b.reqs[i]
	if r.SpawnConfig != nil {
		return r.SpawnConfig, "", nil
	}
	var kept *Dormant
	if r.Key != nil {
		kept = b.dormant[idOf(*r.Key)]
	}
	switch {
	case kept == nil && b.dormantErr != nil:
		return nil, "", b.dormantErr
	case kept == nil:
		return nil, "", messages.Errorf(messages.KeyUnheldNoSpawnConfig, "nobody holds the key, and the request has no spawn_config")
	case kept.Tag != r.Key.Tag:
		return nil, "", messages.Errorf(messages.KeyHeld, "the key is dormant with the tag %q, not %q", kept.Tag, r.Key.Tag)
	case r.OfOneToken() != "":
		return nil, "", messages.Errorf(messages.BadRequest, "%s: the key is dormant, and has a static token, which all who connect share: nothing can be told of one of them. Leave it out", r.OfOneToken())
	}
	return kept.Config, kept.BackendID, nil
}

// keep has the key be started with what was asked for once more. Where the backend is, and that its host is its own, are said with it: the URL
// stays, whatever a worker says by then where nothing is said.
func (s *Spawn) keep(asked *messages.SpawnConfig) {
	s.AnyLabel = s.Origin && asked.Subdomain == ""
	if asked.ResumeSeconds == nil {
		return
	}
	kept := *asked
	kept.ID, kept.Cluster, kept.Origin = "", s.Cluster, &s.Origin
	s.Kept = &kept
}
