package proxy

import (
	"sync"
	"sync/atomic"
)

// bufferSize is what one direction of a body takes in memory while it flows.
const bufferSize = 32 << 10

// buffers are what bodies and upgraded connections flow through. Who waits for
// bytes holds none.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

func takeBuffer() *[bufferSize]byte  { return buffers.Get().(*[bufferSize]byte) }
func giveBuffer(b *[bufferSize]byte) { buffers.Put(b) }

const (
	// largeSize is what a long response takes instead: the more is moved at once, the
	// fewer times all of proxy, backend and client are woken. It was measured to be faster
	// than having the kernel move it, which does so in small pieces.
	largeSize = 256 << 10
	// largeFrom is from how many bytes to come on a response is long.
	largeFrom = 64 << 10
	// mostLarge are in use at most, whatever clients do (I8). Who finds none left takes
	// a small one.
	mostLarge = 128
)

var (
	largeBuffers = sync.Pool{New: func() any { return new([largeSize]byte) }}
	largeInUse   atomic.Int64
)

// takeFor gives a buffer for n bytes to come; giveBack takes it back.
func takeFor(n int64) []byte {
	if n < largeFrom {
		return takeBuffer()[:]
	}
	if largeInUse.Add(1) > mostLarge {
		largeInUse.Add(-1)
		return takeBuffer()[:]
	}
	return largeBuffers.Get().(*[largeSize]byte)[:]
}

func giveBack(b []byte) {
	if len(b) != largeSize {
		giveBuffer((*[bufferSize]byte)(b))
		return
	}
	largeBuffers.Put((*[largeSize]byte)(b))
	largeInUse.Add(-1)
}
