package proxy

import "sync"

// bufferSize is what one direction of a body takes in memory while it flows.
const bufferSize = 32 << 10

// buffers are what bodies and upgraded connections flow through. Who waits for
// bytes holds none.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

func takeBuffer() *[bufferSize]byte  { return buffers.Get().(*[bufferSize]byte) }
func giveBuffer(b *[bufferSize]byte) { buffers.Put(b) }
