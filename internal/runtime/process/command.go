package process

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Limits of one executable. The kernel has its own, further up; these keep an
// absurd request from reaching it.
const (
	maxWords     = 256
	maxWordBytes = 32 << 10
	maxBytes     = 128 << 10 // of command and env together
)

// command is the executable of a request, after checks that need no disk.
type command struct {
	Command []text        `json:"command"`
	Env     map[text]text `json:"env"`
}

// text is a JSON string and nothing else; encoding/json alone takes null for "".
type text string

// UnmarshalJSON refuses everything that is not a string.
func (t *text) UnmarshalJSON(raw []byte) error {
	if len(raw) == 0 || raw[0] != '"' {
		return fmt.Errorf("got %.20s where a string is wanted", raw)
	}
	return json.Unmarshal(raw, (*string)(t))
}

const wanted = `want {"command": ["program", "argument"], "env": {"NAME": "value"}}`

// parse reads an executable and checks what can be told from its text.
func parse(executable json.RawMessage) (command, error) {
	var c command
	decoder := json.NewDecoder(bytes.NewReader(executable))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&c); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("it is empty")
		}
		return c, fmt.Errorf("executable: %w; %s", err, wanted)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return c, fmt.Errorf("executable: there is more after the JSON object; %s", wanted)
	}
	if len(c.Command) == 0 {
		return c, fmt.Errorf("executable: command is empty; %s", wanted)
	}
	if len(c.Command) > maxWords || len(c.Env) > maxWords {
		return c, fmt.Errorf("executable: %d words in command and %d variables in env; at most %d each are allowed",
			len(c.Command), len(c.Env), maxWords)
	}
	total := 0
	for i, word := range c.Command {
		if err := checkText(string(word)); err != nil {
			return c, fmt.Errorf("executable: command[%d] %w", i, err)
		}
		total += len(word)
	}
	for name, value := range c.Env {
		if err := checkName(string(name)); err != nil {
			return c, fmt.Errorf("executable: env %.80q %w", name, err)
		}
		if err := checkText(string(value)); err != nil {
			return c, fmt.Errorf("executable: env %.80q %w", name, err)
		}
		total += len(name) + len(value)
	}
	if total > maxBytes {
		return c, fmt.Errorf("executable: command and env hold %d bytes; at most %d are allowed", total, maxBytes)
	}
	return c, checkPath(string(c.Command[0]))
}

func checkText(s string) error {
	if len(s) > maxWordBytes {
		return fmt.Errorf("is %d bytes long; at most %d are allowed", len(s), maxWordBytes)
	}
	if strings.IndexByte(s, 0) >= 0 {
		return errors.New("contains a NUL byte, which no process can receive; remove it")
	}
	return nil
}

func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("has an empty name; give it one")
	case strings.ContainsAny(name, "=\x00"):
		return errors.New("has `=` or a NUL byte in its name; remove it")
	case name == "PORT" || strings.HasPrefix(name, "SESSION_"):
		return errors.New("is set by the drone and cannot be overridden; choose another name")
	case strings.HasPrefix(name, "LD_") || strings.HasPrefix(name, "DYLD_"):
		// They make the linker load code from anywhere, not only from below Root.
		return errors.New("steers the dynamic linker and is not allowed; link the program so that it needs none")
	}
	return checkText(name)
}

// checkPath says whether a path stays below the root by its text alone.
func checkPath(path string) error {
	const advice = "give the path of a file below the drone's --process-root, such as \"room\" or \"bin/room\""
	switch {
	case path == "":
		return fmt.Errorf("executable: command[0] is empty; %s", advice)
	case filepath.IsAbs(path):
		return fmt.Errorf("executable: command[0] %.200q is an absolute path; %s", path, advice)
	case !filepath.IsLocal(path):
		return fmt.Errorf("executable: command[0] %.200q leads out of the drone's --process-root; %s", path, advice)
	}
	return nil
}

// resolve finds the file below root and returns its path, free of symlinks.
func resolve(root, path string) (string, error) {
	if err := checkPath(path); err != nil {
		return "", err
	}
	fail := func(why string) (string, error) {
		return "", fmt.Errorf("executable: command[0] %.200q below the drone's --process-root %s", path, why)
	}
	dir, err := os.OpenRoot(root)
	if err != nil {
		return "", fmt.Errorf("open the drone's --process-root: %w", reason(err))
	}
	defer dir.Close()
	// Stat follows symlinks, but not out of the root; and unlike an open it does
	// not hang on a FIFO.
	info, err := dir.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fail("does not exist; install it there, or correct the name")
	case err != nil:
		return fail(fmt.Sprintf("cannot be used: %v", reason(err)))
	case !info.Mode().IsRegular():
		return fail("is not a regular file; name a program")
	case info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0:
		return fail("is setuid or setgid, which is not allowed; remove that bit")
	case info.Mode()&0o111 == 0:
		return fail("is not executable; make it so with chmod +x")
	}
	// exec follows symlinks anywhere, so it gets a path without any.
	resolved, err := filepath.EvalSymlinks(filepath.Join(root, path))
	if err != nil {
		return fail(fmt.Sprintf("cannot be used: %v", reason(err)))
	}
	again, err := os.Lstat(resolved)
	if rel, relErr := filepath.Rel(root, resolved); err != nil || relErr != nil || !filepath.IsLocal(rel) || !os.SameFile(info, again) {
		return fail("changed while it was looked at; try again")
	}
	return resolved, nil
}

// reason strips the path from an error: the message travels to whoever made the
// request, and the layout of the drone's machine is not their business.
func reason(err error) error {
	if pathError, ok := errors.AsType[*fs.PathError](err); ok {
		return pathError.Err
	}
	return err
}
