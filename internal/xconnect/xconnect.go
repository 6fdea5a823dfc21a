// Package xconnect has net/http's server offer WebSockets over HTTP/2 (RFC 8441, the extended CONNECT). Go has them, behind
// a word in GODEBUG which net/http reads once, while it is initialized, and which no line //go:debug may set. So
// the word must stand in this process's environment just then, and no child shall find it there.
//
// Go initializes packages in the order of their import paths, each as soon as those that it imports are (The Go Programming
// Language Specification, "Program initialization"). This one imports nothing that net/http does not, and its path comes before
// net/http's: so it is initialized before. Who imports it, and net/http, calls [Restore] while it is initialized itself: that
// is after both. If Go changes its mind about the word, proxies offer no WebSockets over HTTP/2, and browsers
// use HTTP/1.1 for them: nothing else depends on it, and a test says so.
package xconnect

import (
	"strings"
	"syscall"
)

const (
	variable = "GODEBUG"
	word     = "http2xconnect="
)

// found is the variable as this process was started with it.
var found, given = syscall.Getenv(variable)

func init() {
	// Who has written the word has decided.
	if !strings.Contains(found, word) {
		_ = syscall.Setenv(variable, strings.TrimPrefix(found+","+word+"1", ","))
	}
}

// Restore gives the variable back what it was.
func Restore() {
	if !given {
		_ = syscall.Unsetenv(variable)
		return
	}
	_ = syscall.Setenv(variable, found)
}
