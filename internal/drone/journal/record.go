package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"github.com/jetway-project/jetway/messages"
)

const (
	fileName  = "journal"
	lockName  = "agent.lock"
	leaseName = "lease"
	version   = 1
	// maxLine bounds what is read as one line; an executable may have 256 KiB.
	maxLine = 4 << 20
	// noteSize is the size of a file of one line. It does not cross pages.
	noteSize = 1 << 10
)

// Mark names a report that was noted, in order. The zero Mark is of none.
type Mark uint64

// record is one line of the journal. It is about one backend, but for the first line.
type record struct {
	Version int    `json:"version,omitempty"`
	Drone   string `json:"drone,omitempty"`
	Machine string `json:"machine,omitempty"`
	Boot    string `json:"boot,omitempty"`

	ID string `json:"id,omitempty"`
	// Spawn is a messages.Spawn. It has a line of its own: it may be large, and is copied as it is.
	Spawn json.RawMessage `json:"spawn,omitempty"`
	State *State          `json:"state,omitempty"`
	Over  bool            `json:"over,omitempty"`
	// Report is to be told to the workers, until its Mark is Answered.
	Mark     Mark             `json:"mark,omitempty"`
	Report   *messages.Report `json:"report,omitempty"`
	Answered []Mark           `json:"answered,omitempty"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sumSize is the length of a line's checksum and of the space after it.
const sumSize = 9

// line is a value as a line: a checksum and JSON.
func line(v any) []byte {
	text := messages.Encode(v)
	return fmt.Appendf(make([]byte, 0, len(text)+sumSize+1), "%08x %s\n", crc32.Checksum(text, castagnoli), text)
}

var errDamaged = errors.New("it is not what was written")

func parse(text []byte, to any) error {
	text = bytes.TrimRight(text, " \n")
	if len(text) <= sumSize {
		return errDamaged
	}
	sum, err := strconv.ParseUint(string(text[:sumSize-1]), 16, 32)
	if text = text[sumSize:]; err != nil || uint32(sum) != crc32.Checksum(text, castagnoli) {
		return errDamaged
	}
	return json.Unmarshal(text, to)
}

// scan gives the whole lines of a file from an offset on, each with where it begins, and says
// where they end.
func scan(file io.ReaderAt, from int64, visit func(at int64, text []byte)) (end int64, err error) {
	lines := bufio.NewScanner(io.NewSectionReader(file, from, math.MaxInt64-from))
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	lines.Split(func(data []byte, _ bool) (int, []byte, error) {
		n := bytes.IndexByte(data, '\n') + 1
		if n == 0 {
			return 0, nil, nil
		}
		return n, data[:n], nil
	})
	for end = from; lines.Scan(); end += int64(len(lines.Bytes())) {
		visit(end, lines.Bytes())
	}
	return end, lines.Err()
}

// head reads the first line of a journal.
func head(file io.ReaderAt) (h record, err error) {
	first := make([]byte, noteSize)
	n, err := file.ReadAt(first, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return h, err
	}
	end := bytes.IndexByte(first[:n], '\n')
	if end < 0 {
		return h, errDamaged
	}
	return h, parse(first[:end], &h)
}

// WriteNote writes a value in place, as one line of a fixed size: a full disk has the room of the one
// before. Who reads it meanwhile may find it half written: see ReadNote.
func WriteNote(path string, v any) error {
	text := line(v)
	if len(text) > noteSize {
		return fmt.Errorf("%s: %d bytes do not fit", path, len(text))
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	text = append(text[:len(text)-1], bytes.Repeat([]byte(" "), noteSize-len(text))...)
	_, err = file.WriteAt(append(text, '\n'), 0)
	return errors.Join(err, file.Close())
}

// noteTries is how often what is half written is read again.
const noteTries = 5

// ReadNote reads what WriteNote has written.
func ReadNote(path string, to any) (err error) {
	var text []byte
	for range noteTries {
		if text, err = os.ReadFile(path); err == nil {
			err = parse(text, to)
		}
		if !errors.Is(err, errDamaged) {
			break
		}
	}
	return err
}

// Lease is until when backends may live, in ms of the time since boot.
type Lease struct {
	SoftAtMS int64 `json:"soft_at_ms"`
	HardAtMS int64 `json:"hard_at_ms"`
}

// leaseNote is a lease on the disk; it means something in its boot only.
type leaseNote struct {
	Boot string `json:"boot"`
	Lease
}

// readLease is the lease that was written in this boot; none is past. An error says that it cannot
// be told.
func readLease(dir, boot string) (Lease, error) {
	var note leaseNote
	err := ReadNote(filepath.Join(dir, leaseName), &note)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && note.Boot != boot:
		return Lease{}, nil
	case err != nil:
		return Lease{}, fmt.Errorf("the lease in %s: %w", dir, err)
	}
	return note.Lease, nil
}
