package proxy

import "time"

// waits are the times that no flag sets. Tests change them: what a test is to see run out is
// short there, and what is to come in time has all the time there is, however slow the machine.
type waits struct {
	// head is how long a client may take for the head of its request.
	head time.Duration
	// proceed is how long a client that wants to be told waits for the backend's word;
	// then its body is sent unasked.
	proceed time.Duration
	// settle is for a request that was sent, until the goroutine that sent it says so.
	settle time.Duration
	// linger is for a client that still sends its request when the response is over:
	// closing on it at once could cost it the response.
	linger time.Duration
	// idle is how long a connection to a backend is kept for the next request: below the
	// 5 s after which a Node.js backend closes it, for a request sent just then would be lost.
	idle time.Duration
	// ended is for what a backend left on its connections when it ended.
	ended time.Duration
	// flush is for what the last requests left to be sent.
	flush time.Duration
	// upgrade is how long an upgrade waits for its backend to get ready.
	upgrade time.Duration
	// slide is how often it is looked whether the tokens of what is open are to slide.
	slide time.Duration
	// namesakes is how often it is looked whether another proxy has this one's name.
	namesakes time.Duration
	// goodbye bounds the last word to the workers.
	goodbye time.Duration
}

var usualWaits = waits{
	head:      10 * time.Second,
	proceed:   time.Second,
	settle:    50 * time.Millisecond,
	linger:    500 * time.Millisecond,
	idle:      4 * time.Second,
	ended:     2 * time.Second,
	flush:     500 * time.Millisecond,
	upgrade:   2 * time.Second,
	namesakes: time.Minute,
	slide:     2 * time.Second,
	goodbye:   2 * time.Second,
}
