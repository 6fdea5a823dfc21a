package proxy

import (
	"encoding/binary"
	"net"
	"time"

	"github.com/jetway-project/jetway/internal/metrics"
)

// What a WebSocket is told when the proxy ends it (RFC 6455, section 7.4.1).
const (
	closeGoingAway = 1001
	closePolicy    = 1008
)

// closeCode is what WebSockets are told that are cut for this cause.
func closeCode(cause metrics.Cut) uint16 {
	if cause == metrics.CutRevoked {
		return closePolicy
	}
	return closeGoingAway
}

// frames follows one way of a WebSocket, to know whether a frame of the proxy's own may follow: that is so between
// frames, and not after the last one. It looks at the heads of frames only.
type frames struct {
	mute uint16 // a bit for each kind of frame that says nothing
	head [14]byte
	have int    // bytes of a head
	left uint64 // bytes of a payload to come
	over bool   // the frame that ends the WebSocket has begun, or the way has failed
}

// pass takes in what was passed on, and says whether any of it is in frames that say something.
func (f *frames) pass(b []byte) (says bool) {
	for len(b) > 0 {
		if f.left > 0 {
			n := min(f.left, uint64(len(b)))
			f.left -= n
			b = b[n:]
			says = says || f.says()
			continue
		}
		f.head[f.have] = b[0]
		f.have++
		b = b[1:]
		says = says || f.says()
		if f.have >= 2 && f.have == f.headSize() {
			f.begin()
		}
	}
	return says
}

// says is so of the frame that is passing.
func (f *frames) says() bool { return f.mute>>(f.head[0]&opcodeBits)&1 == 0 }

const (
	opcodeBits  = 0x0f
	opcodeClose = 8
	opcodePing  = 9
	opcodePong  = 10
	lengthBits  = 0x7f
	maskBit     = 0x80
	finalBit    = 0x80
)

// headSize is how long the head is that has begun.
func (f *frames) headSize() int {
	size := 2
	switch f.head[1] & lengthBits {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if f.head[1]&maskBit != 0 {
		size += 4
	}
	return size
}

// begin begins a frame whose head is whole.
func (f *frames) begin() {
	f.have = 0
	f.over = f.over || f.head[0]&opcodeBits == opcodeClose
	switch short := f.head[1] & lengthBits; short {
	case 126:
		f.left = uint64(binary.BigEndian.Uint16(f.head[2:]))
	case 127:
		f.left = binary.BigEndian.Uint64(f.head[2:])
	default:
		f.left = uint64(short)
	}
}

// between says that a frame may follow.
func (f *frames) between() bool { return f.have == 0 && f.left == 0 && !f.over }

// farewell ends a WebSocket with a frame that says why, and says whether it could. The client has a moment from now on.
func farewell(client net.Conn, code uint16, moment time.Duration) bool {
	_ = client.SetDeadline(time.Now().Add(moment))
	_, err := client.Write(binary.BigEndian.AppendUint16([]byte{finalBit | opcodeClose, 2}, code))
	return err == nil
}

// hearOut gives a client the moment to take in what it was told: closing at once on one that still sends something could cost it
// the frame.
func hearOut(client net.Conn) {
	if t, ok := client.(*tunnel); ok {
		t.ended.Store(true)
	} else if closeWrite(client) != nil {
		return
	}
	var ignored [512]byte
	for {
		if _, err := client.Read(ignored[:]); err != nil {
			return
		}
	}
}
