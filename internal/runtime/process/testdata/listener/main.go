// Command listener is the smallest backend: it answers every HTTP request on PORT with
// 200 and nothing else. It is for running a thousand of them, so it has neither net nor
// net/http, and holds a megabyte or so.
package main

import (
	"os"
	"strconv"
	"syscall"
)

func main() {
	port, err := strconv.Atoi(os.Getenv("PORT"))
	must(err)
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	must(err)
	must(syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1))
	must(syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}))
	must(syscall.Listen(fd, 16))
	_, _ = os.Stdout.WriteString("ready\n")
	request := make([]byte, 4096)
	for {
		conn, _, err := syscall.Accept(fd)
		if err == syscall.EINTR { //nolint:errorlint // as small as can be
			continue
		}
		must(err)
		if _, err := syscall.Read(conn, request); err == nil {
			_, _ = syscall.Write(conn, []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
		}
		_ = syscall.Close(conn)
	}
}

func must(err error) {
	if err != nil {
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
}
