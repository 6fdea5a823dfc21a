package docker

import (
	"fmt"
	"sync"

	"github.com/dustin/go-humanize"
	"github.com/moby/moby/api/types/jsonstream"
)

// maxLayers bounds how many layers a pull is followed by. Docker's own bound is 127.
const maxLayers = 256

// progress is how far a pull is.
type progress struct {
	mu     sync.Mutex
	layers map[string]layer
}

type layer struct{ done, total int64 }

// add takes a message of the engine about one layer.
func (p *progress) add(message jsonstream.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.layers == nil {
		p.layers = map[string]layer{}
	}
	l, known := p.layers[message.ID]
	if message.ID == "" || !known && len(p.layers) == maxLayers {
		return
	}
	switch message.Status {
	case "Downloading":
		if message.Progress != nil {
			l.done, l.total = message.Progress.Current, max(message.Progress.Total, message.Progress.Current)
		}
	case "Download complete", "Pull complete":
		l.done = l.total
	default:
		return
	}
	p.layers[message.ID] = l
}

// text says it for people.
func (p *progress) text(c command) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all layer
	for _, l := range p.layers {
		all.done += l.done
		all.total += l.total
	}
	switch {
	case all.total == 0:
		return fmt.Sprintf("pulling %s", c.Image)
	case all.done == all.total:
		return fmt.Sprintf("pulling %s: downloaded %s, unpacking", c.Image, humanize.Bytes(uint64(all.total)))
	}
	return fmt.Sprintf("pulling %s: %s of %s", c.Image, humanize.Bytes(uint64(all.done)), humanize.Bytes(uint64(all.total)))
}
