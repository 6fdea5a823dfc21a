package lease

import "github.com/jetway-project/jetway/messages"

// labelChars make a label that nobody guesses: a neighbour's page, which is of the same site, finds no way to it.
const labelChars = 26

// hostOf gives the label below its cluster through which a backend is reached, "" for none, and whether that host is the
// backend's own (origin mode). usual says so where the request does not.
func hostOf(cfg *messages.SpawnConfig, cluster string, usual bool) (subdomain string, origin bool, err error) {
	named := messages.Named(cluster)
	if cfg.Origin != nil {
		origin = *cfg.Origin
	} else {
		origin = usual && named
	}
	switch {
	case !origin:
		return cfg.Subdomain, false, nil
	case !named:
		return "", false, messages.Errorf(messages.BadRequest, "spawn_config.origin: takes a cluster with a name, below which sessions have theirs, and %q is an IP address", cluster)
	case cfg.Subdomain != "":
		return cfg.Subdomain, true, nil
	}
	return randomName(labelChars), true, nil
}
