package procs

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Listening is where processes listen for TCP, as far as this process may see it. Of one in a
// network of its own, as a container has, it is all that listens there.
func Listening(pids ...int) []netip.AddrPort {
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return nil
	}
	var found []netip.AddrPort
	sockets := map[string]bool{}
	for _, pid := range pids {
		dir := filepath.Join("/proc", strconv.Itoa(pid))
		network, err := os.Readlink(filepath.Join(dir, "ns/net"))
		switch {
		case err != nil:
		case network != own:
			return listeners(dir, nil)
		default:
			socketsOf(dir, sockets)
		}
	}
	if len(sockets) > 0 {
		found = listeners("/proc/self", sockets)
	}
	return found
}

// socketsOf adds the sockets that a process has, by the kernel's numbers.
func socketsOf(dir string, to map[string]bool) {
	files, _ := os.ReadDir(filepath.Join(dir, "fd"))
	for _, file := range files {
		target, _ := os.Readlink(filepath.Join(dir, "fd", file.Name()))
		if number, ok := strings.CutPrefix(target, "socket:["); ok {
			to[strings.TrimSuffix(number, "]")] = true
		}
	}
}

// listeners reads who listens in a process's network; with a filter, only those sockets.
func listeners(dir string, only map[string]bool) (found []netip.AddrPort) {
	// Fields of a line: where it listens, the state, and the socket's number.
	const fieldLocal, fieldState, fieldSocket, listen = 1, 3, 9, "0A"
	for _, name := range []string{"tcp", "tcp6"} {
		raw, _ := os.ReadFile(filepath.Join(dir, "net", name))
		for line := range strings.Lines(string(raw)) {
			fields := strings.Fields(line)
			if len(fields) <= fieldSocket || fields[fieldState] != listen || only != nil && !only[fields[fieldSocket]] {
				continue
			}
			if at, ok := parseAddrPort(fields[fieldLocal]); ok && !slices.Contains(found, at) {
				found = append(found, at)
			}
		}
	}
	return found
}

// parseAddrPort reads "0100007F:1F90": words of four bytes in this machine's order.
func parseAddrPort(text string) (at netip.AddrPort, ok bool) {
	address, port, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(address)
	number, portErr := strconv.ParseUint(port, 16, 16)
	if err != nil || portErr != nil || len(raw)%4 != 0 {
		return at, false
	}
	for word := range slices.Chunk(raw, 4) {
		binary.NativeEndian.PutUint32(word, binary.BigEndian.Uint32(word))
	}
	ip, ok := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(ip.Unmap(), uint16(number)), ok
}
