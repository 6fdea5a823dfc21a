package proxy

import (
	"time"

	"github.com/jetway-project/jetway/internal/testkit"
)

// StrangerBurst and StrangerRate are for tests from outside.
const StrangerBurst, StrangerRate = strangerBurst, strangerRate

// BePatient makes what bounds the proxy's waiting so long that only a hang meets it.
func (c *Config) BePatient() {
	c.LookupTimeout, c.DialTimeout, c.ReadyTimeout = testkit.Patience, testkit.Patience, testkit.Patience
	c.RouteTrust = 24 * time.Hour
	c.waits = usualWaits
	c.waits.namesakes = time.Second
	c.waits.head, c.waits.goodbye = testkit.Patience, testkit.Patience
}

// LimitHeads sets how long a client may take for the head of its request.
func (c *Config) LimitHeads(limit time.Duration) { c.waits.head = limit }

// Linger sets how long a client may go on sending when the response is over.
func (c *Config) Linger(limit time.Duration) { c.waits.linger = limit }
