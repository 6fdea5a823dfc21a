package messages

import "strings"

// TraceContext is what is carried on of the W3C headers traceparent and tracestate, in one text that [TraceHeaders] takes
// apart: "" where traceparent is not a valid one, and without a tracestate that is longer than 512 characters or not ASCII.
func TraceContext(traceparent, tracestate string) string {
	if !validTraceparent(traceparent) {
		return ""
	}
	if tracestate = strings.TrimSpace(tracestate); tracestate != "" && validTracestate(tracestate) {
		return traceparent + " " + tracestate
	}
	return traceparent
}

// TraceHeaders takes apart what [TraceContext] has put together.
func TraceHeaders(context string) (traceparent, tracestate string) {
	traceparent, tracestate, _ = strings.Cut(context, " ")
	return traceparent, tracestate
}

// validTraceparent: version-trace-parent-flags in lower hexadecimal digits, of 2, 32, 16 and 2. The version is not ff, and neither the
// trace nor the parent is nothing but zeros. Later versions may be longer: of those nothing is carried on.
func validTraceparent(s string) bool {
	if len(s) != 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return false
	}
	version, trace, parent, flags := s[:2], s[3:35], s[36:52], s[53:]
	for _, part := range []string{version, trace, parent, flags} {
		if strings.Trim(part, "0123456789abcdef") != "" {
			return false
		}
	}
	return version != "ff" && strings.Trim(trace, "0") != "" && strings.Trim(parent, "0") != ""
}

func validTracestate(s string) bool {
	if len(s) > 512 {
		return false
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// HeaderASCII is a text for people as a header, in which some clients take nothing but ASCII: what else it holds, and control
// characters, stand as \u escapes. It is cut after a thousand bytes or so; the body has all of it.
func HeaderASCII(text string) string {
	var out strings.Builder
	for _, c := range text {
		if out.Len() > 1000 {
			out.WriteString("...")
			break
		}
		switch {
		case c >= ' ' && c <= '~':
			out.WriteByte(byte(c))
		case c <= 0xffff:
			writeEscape(&out, c)
		default:
			writePair(&out, c)
		}
	}
	return out.String()
}
