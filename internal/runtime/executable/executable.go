// Package executable reads the `executable` of a connect request, as far as its form
// is the same for every runtime: strict JSON, and rules for the environment.
//
// What holds: its errors are text for the person who made the request. They begin
// with "executable:", name the field, say what is wrong and what to do, and are short
// whatever was sent.
//
// The package is pure; there is nothing to close.
package executable

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jetway-project/jetway/messages"
)

// Limits of one executable. The kernel has its own, further up; these keep an
// absurd request from reaching it.
const (
	// MaxWords bounds the words of a command, and the variables of an environment.
	MaxWords = 256
	// MaxBytes bounds, in bytes, all words and variables together.
	MaxBytes     = 128 << 10
	maxWordBytes = 32 << 10
)

// Text is a JSON string and nothing else; encoding/json alone takes null for "".
type Text string

// UnmarshalJSON refuses everything that is not a string.
func (t *Text) UnmarshalJSON(raw []byte) error {
	if len(raw) == 0 || raw[0] != '"' {
		return fmt.Errorf("got %.20s where a string is wanted", raw)
	}
	return json.Unmarshal(raw, (*string)(t))
}

// Decode reads one JSON object into a struct that has all fields there may be. wanted
// ends its errors: it shows what is wanted instead.
func Decode(executable json.RawMessage, into any, wanted string) error {
	if len(bytes.TrimSpace(executable)) == 0 {
		return fmt.Errorf("executable: it is empty; %s", wanted)
	}
	var wrong *messages.Error
	if err := messages.ReadJSON(executable, into, true); errors.As(err, &wrong) {
		return fmt.Errorf("executable: %s; %s", strings.TrimPrefix(wrong.Message, "the payload: "), wanted)
	}
	return nil
}

// CheckText says whether a process can receive s.
func CheckText(s string) error {
	if len(s) > maxWordBytes {
		return fmt.Errorf("is %d bytes long; at most %d are allowed", len(s), maxWordBytes)
	}
	if strings.IndexByte(s, 0) >= 0 {
		return errors.New("contains a NUL byte, which no process can receive; remove it")
	}
	return nil
}

// CheckEnv says whether a process can receive the variables, and may: what says who a
// backend is only the drone sets. PORT and HOST are the drone's too, whatever is given for
// them, as in Plane; all other names are the caller's. It returns how many bytes they hold.
func CheckEnv(env map[Text]Text) (size int, err error) {
	for name, value := range env {
		if err := checkName(string(name)); err != nil {
			return 0, fmt.Errorf("executable: env %.80q %w", name, err)
		}
		if err := CheckText(string(value)); err != nil {
			return 0, fmt.Errorf("executable: env %.80q %w", name, err)
		}
		size += len(name) + len(value)
	}
	return size, nil
}

func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("has an empty name; give it one")
	case strings.ContainsAny(name, "=\x00"):
		return errors.New("has `=` or a NUL byte in its name; remove it")
	case strings.HasPrefix(name, "SESSION_BACKEND_"):
		return errors.New("is set by the drone and cannot be overridden; choose another name")
	}
	return CheckText(name)
}
