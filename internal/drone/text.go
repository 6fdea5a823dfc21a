package drone

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// clean makes text of anywhere fit for a message: valid UTF-8, no control
// characters but line ends and tabs, at most limit bytes.
func clean(text string, limit int) string {
	const cut = "…"
	text = strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && unicode.IsControl(r) {
			return -1
		}
		return r // and U+FFFD for what is not UTF-8
	}, text)
	if len(text) <= limit {
		return text
	}
	end := limit - len(cut)
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + cut
}

// oneLine is clean, in one line.
func oneLine(text string, limit int) string {
	return clean(strings.Map(func(r rune) rune {
		if r == utf8.RuneError || unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text), limit)
}
