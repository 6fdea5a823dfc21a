package proxy_test

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
)

// Opcodes of WebSocket frames.
const (
	opContinue = 0x0
	opText     = 0x1
	opBinary   = 0x2
	opClose    = 0x8
	opPing     = 0x9
	opPong     = 0xa
)

// Bits of a frame's first byte.
const (
	fin  = 0x80
	rsv1 = 0x40
	rsv2 = 0x20
	rsv3 = 0x10
)

// mask is every client frame's, so that two runs send the same bytes.
var mask = [4]byte{0x37, 0xfa, 0x21, 0x3d}

// frame is a client's frame with the shortest length that fits.
func frame(first byte, payload string) string {
	return string(append(frameHead(first, 0x80, len(payload)), masked(payload)...))
}

func frameHead(first, maskBit byte, size int) []byte {
	head := []byte{first}
	switch {
	case size < 126:
		head = append(head, maskBit|byte(size))
	case size < 1<<16:
		head = binary.BigEndian.AppendUint16(append(head, maskBit|126), uint16(size))
	default:
		head = binary.BigEndian.AppendUint64(append(head, maskBit|127), uint64(size))
	}
	if maskBit != 0 {
		head = append(head, mask[:]...)
	}
	return head
}

// served is a frame as a server sends it.
func served(first byte, payload string) string {
	return string(frameHead(first, 0, len(payload))) + payload
}

func masked(payload string) []byte {
	out := []byte(payload)
	for i := range out {
		out[i] ^= mask[i%4]
	}
	return out
}

func text(payload string) string    { return frame(fin|opText, payload) }
func binaryF(payload string) string { return frame(fin|opBinary, payload) }

// closing is a close frame with a code and a reason.
func closing(code int, reason string) string {
	return frame(fin|opClose, string(binary.BigEndian.AppendUint16(nil, uint16(code)))+reason)
}

func servedClose(code int, reason string) string {
	return served(fin|opClose, string(binary.BigEndian.AppendUint16(nil, uint16(code)))+reason)
}

// deflated is a payload as permessage-deflate puts it on the wire.
func deflated(t *testing.T, payload string) string {
	t.Helper()
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.BestCompression)
	must(t, err)
	_, err = w.Write([]byte(payload))
	must(t, err)
	must(t, w.Flush())
	return strings.TrimSuffix(out.String(), "\x00\x00\xff\xff")
}

// socketCase is what a client sends after the handshake.
type socketCase struct {
	name string
	sent string
	// offer is the client's Sec-WebSocket-Extensions, if any.
	offer string
	// wanted is all that comes back, where it is not left to the backend's compression.
	wanted string
	// code is that of the backend's close frame, where what is before it is not wanted.
	code int
	// answer is what the client says when it has heard what is wanted.
	answer string
	// vanish: the client ends the connection instead of waiting for the backend.
	vanish bool
	// unread: the backend ends before it has read all.
	unread bool
}

const goodbye = "\x03\xe8" // 1000

// socketCases are those of Autobahn's test suite that a proxy could spoil, in its order.
func socketCases(t *testing.T) []socketCase {
	t.Helper()
	var cases []socketCase
	// add is a case in which the client says goodbye after what it sends, and gets
	// these frames and its goodbye back.
	add := func(name, sent string, wanted ...string) {
		cases = append(cases, socketCase{
			name: name, sent: sent + frame(fin|opClose, goodbye),
			wanted: strings.Join(wanted, "") + served(fin|opClose, goodbye),
		})
	}
	// bad is a case that the backend ends, with this code.
	bad := func(name, sent string, code int) {
		cases = append(cases, socketCase{name: name, sent: sent, code: code, unread: true})
	}

	for _, size := range []int{0, 1, 125, 126, 127, 128, 65535, 65536, testkit.Sized(t, 1<<20, 16<<20)} {
		payload := strings.Repeat("*", size)
		add(fmt.Sprintf("1 text of %d", size), text(payload), served(fin|opText, payload))
		payload = strings.Repeat("\xfe", size)
		add(fmt.Sprintf("1 binary of %d", size), binaryF(payload), served(fin|opBinary, payload))
	}
	add("1 text whose length takes more bytes than it needs",
		"\x81\xff\x00\x00\x00\x00\x00\x00\x00\x05"+string(mask[:])+string(masked("hello")), served(fin|opText, "hello"))

	for _, payload := range []string{"", "hello", "\x00\xff\xfe\xfd", strings.Repeat("\xfe", 125)} {
		add(fmt.Sprintf("2 ping with %d", len(payload)), frame(fin|opPing, payload), served(fin|opPong, payload))
	}
	bad("2 ping with 126", frame(fin|opPing, strings.Repeat("\xfe", 126)), 1002)
	add("2 pong that nobody asked for", frame(fin|opPong, "unasked")+frame(fin|opPing, "a"), served(fin|opPong, "a"))
	pings, pongs := "", ""
	for i := range 10 {
		pings += frame(fin|opPing, fmt.Sprint("payload-", i))
		pongs += served(fin|opPong, fmt.Sprint("payload-", i))
	}
	add("2 ten pings", pings, pongs)

	for bit, name := range map[byte]string{rsv1: "1", rsv2: "2", rsv3: "3", rsv1 | rsv2 | rsv3: "1, 2 and 3"} {
		bad("3 reserved bit "+name, frame(fin|bit|opText, "hello"), 1002)
		bad("3 reserved bit "+name+" of a ping", text("before")+frame(fin|bit|opPing, "hello"), 1002)
	}
	for _, opcode := range []byte{3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf} {
		bad(fmt.Sprintf("4 reserved opcode %d", opcode), text("before")+frame(fin|opcode, "hello"), 1002)
	}

	add("5 text in two", frame(opText, "hel")+frame(fin|opContinue, "lo"), served(fin|opText, "hello"))
	add("5 ping between two fragments", frame(opText, "hel")+frame(fin|opPing, "now")+frame(fin|opContinue, "lo"),
		served(fin|opPong, "now"), served(fin|opText, "hello"))
	add("5 empty fragments", frame(opText, "")+frame(opContinue, "")+frame(fin|opContinue, ""), served(fin|opText, ""))
	many, pinged := frame(opBinary, "0"), ""
	for range 200 {
		many += frame(opContinue, "x") + frame(fin|opPing, "p")
		pinged += served(fin|opPong, "p")
	}
	add("5 two hundred fragments with pings", many+frame(fin|opContinue, "1"), pinged, served(fin|opBinary, "0"+strings.Repeat("x", 200)+"1"))
	big := strings.Repeat("0123456789abcdef", 1<<12) // 64 KiB
	add("5 large fragments", frame(opBinary, big)+frame(opContinue, big)+frame(fin|opContinue, big), served(fin|opBinary, big+big+big))
	bad("5 fragmented ping", frame(opPing, "hel")+frame(fin|opContinue, "lo"), 1002)
	bad("5 fragmented close", frame(opClose, goodbye), 1002)
	bad("5 nothing to continue", frame(fin|opContinue, "lost"), 1002)
	bad("5 a new message within one", frame(opText, "hel")+text("lo"), 1002)

	utf8 := "Hello-µ@ßöäüàá-UTF-8!! κόσμε \U0010ffff"
	add("6 text beyond ASCII", text(utf8), served(fin|opText, utf8))
	bytewise := frame(opText, "")
	for i := range len(utf8) {
		bytewise += frame(opContinue, utf8[i:i+1])
	}
	add("6 a fragment for every byte", bytewise+frame(fin|opContinue, ""), served(fin|opText, utf8))
	for _, invalid := range []string{"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited", "\xf4\x90\x80\x80", "\xc0\xaf", "\x80", "\xce"} {
		for how, sent := range map[string]string{
			"at once": text(invalid), "in two": frame(opText, invalid[:1]) + frame(fin|opContinue, invalid[1:]),
		} {
			cases = append(cases, socketCase{
				name: fmt.Sprintf("6 not UTF-8 %s: %x", how, invalid), sent: sent, wanted: servedClose(1007, ""), answer: closing(1007, ""),
			})
		}
	}

	cases = append(cases,
		socketCase{name: "7 close without a code", sent: frame(fin|opClose, ""), wanted: served(fin|opClose, "")},
		socketCase{name: "7 data after close", sent: closing(1000, "") + text("late"), wanted: servedClose(1000, ""), unread: true},
		socketCase{name: "7 the backend closes", sent: text("bye"), wanted: servedClose(4242, "as you wish"), answer: closing(4242, "")},
		socketCase{name: "7 longest reason", sent: closing(1000, strings.Repeat("*", 123)), wanted: servedClose(1000, strings.Repeat("*", 123))},
	)
	bad("7 half a code", frame(fin|opClose, "\x03"), 1002)
	bad("7 reason too long", closing(1000, strings.Repeat("*", 124)), 1002)
	for _, code := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		cases = append(cases, socketCase{name: fmt.Sprint("7 close with ", code), sent: closing(code, "why"), wanted: servedClose(code, "why")})
	}
	for _, code := range []int{0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		bad(fmt.Sprint("7 close with ", code), closing(code, "why"), 1002)
	}

	for name, sent := range map[string]string{
		"8 not masked":                  "\x81\x05hello",
		"8 close, not masked":           "\x88\x02" + goodbye,
		"8 a length beyond any":         "\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff" + string(mask[:]),
		"8 not masked, after a message": text("hello") + "\x81\x05hello",
	} {
		wanted := ""
		if strings.Contains(name, "after") {
			wanted = served(fin|opText, "hello")
		}
		// This backend ends the connection without a word.
		cases = append(cases, socketCase{name: name, sent: sent, wanted: wanted, unread: true})
	}
	cases = append(cases,
		socketCase{name: "8 the client vanishes", sent: text("hello"), wanted: served(fin|opText, "hello"), vanish: true},
		socketCase{name: "8 the client vanishes within a frame", sent: text("hello") + "\x81\x85", wanted: served(fin|opText, "hello"), vanish: true},
	)

	const withContext, withoutContext = "permessage-deflate", "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	long := strings.Repeat("Jetway gives you a URL to the one process that owns a key. ", 50)
	once := frame(fin|rsv1|opText, deflated(t, long))
	for name, offer := range map[string]string{"12 compressed, with context": withContext, "13 compressed, without context": withoutContext} {
		for what, sent := range map[string]string{
			"once":          once,
			"three times":   once + once + once,
			"in two":        frame(rsv1|opText, deflated(t, long)[:10]) + frame(fin|opPing, "p") + frame(fin|opContinue, deflated(t, long)[10:]),
			"much":          frame(fin|rsv1|opBinary, deflated(t, strings.Repeat(long, testkit.Sized(t, 1<<20, 16<<20)/len(long)))),
			"only the next": text("plain") + once,
		} {
			cases = append(cases, socketCase{name: name + ", " + what, offer: offer, sent: sent + closing(1000, ""), code: 1000})
		}
	}
	cases = append(cases, socketCase{
		name: "13 an extension that the backend does not know", offer: "x-unknown; a=b",
		sent: text("hello") + closing(1000, ""), wanted: served(fin|opText, "hello") + servedClose(1000, ""),
	})
	return cases
}
