package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/jetway-project/jetway/internal/runtime/executable"
)

// command is the executable of a request, after checks that need no disk.
type command struct {
	Command []executable.Text                   `json:"command"`
	Env     map[executable.Text]executable.Text `json:"env"`
	// ResourceLimits, without disk_limit_bytes.
	ResourceLimits *executable.Limits `json:"resource_limits"`
}

const wanted = `want {"command": ["program", "argument"], "env": {"NAME": "value"}, "resource_limits": {…}}`

// parse reads an executable and checks what can be told from its text.
func parse(raw json.RawMessage) (command, error) {
	var c command
	if err := executable.Decode(raw, &c, wanted); err != nil {
		return c, err
	}
	if len(c.Command) == 0 {
		return c, fmt.Errorf("executable: command is empty; %s", wanted)
	}
	if len(c.Command) > executable.MaxWords || len(c.Env) > executable.MaxWords {
		return c, fmt.Errorf("executable: %d words in command and %d variables in env; at most %d each are allowed",
			len(c.Command), len(c.Env), executable.MaxWords)
	}
	total, err := executable.CheckEnv(c.Env)
	if err != nil {
		return c, err
	}
	for i, word := range c.Command {
		if err := executable.CheckText(string(word)); err != nil {
			return c, fmt.Errorf("executable: command[%d] %w", i, err)
		}
		total += len(word)
	}
	if total > executable.MaxBytes {
		return c, fmt.Errorf("executable: command and env hold %d bytes; at most %d are allowed", total, executable.MaxBytes)
	}
	if err := c.ResourceLimits.Check(); err != nil {
		return c, err
	}
	if c.ResourceLimits != nil && c.ResourceLimits.DiskLimitBytes != nil {
		return c, errors.New("executable: resource_limits.disk_limit_bytes is for containers; leave it out for a process")
	}
	return c, checkPath(string(c.Command[0]))
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

// explain says what a program that is there lacks, if the kernel has found something not to be there.
func explain(err error, program string) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	raw, _ := os.ReadFile(program)
	line, _, _ := strings.Cut(string(raw[:min(len(raw), 256)]), "\n")
	wanted, isScript := strings.CutPrefix(line, "#!")
	interpreter, _, _ := strings.Cut(strings.TrimLeft(wanted, " \t"), " ")
	switch {
	case !isScript:
		return fmt.Errorf("%w: what loads it is not on the drone's machine: link it statically, or install the system's libraries that it was built for", err)
	case strings.HasSuffix(line, "\r"):
		return fmt.Errorf("%w: its first line names the interpreter %q, with a carriage return at the end: write it with Unix line ends", err, interpreter)
	}
	return fmt.Errorf("%w: its first line names the interpreter %q, which is not there: install it, or name another", err, interpreter)
}
