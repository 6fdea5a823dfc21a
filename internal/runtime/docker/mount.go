package docker

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/jetway-project/jetway/internal/runtime"
)

// mountTarget is where the folder is in the container.
const mountTarget = "/plane-data"

// maxFolder bounds the name of a key's folder, in bytes.
const maxFolder = 200

// maxName is the kernel's bound for one name, in bytes.
const maxName = 255

// mountSource is the folder on this machine that a container gets, made if need be;
// "" is none.
func (r *Runtime) mountSource(spec runtime.Spec, c command) (string, error) {
	if c.Mount == nil || (!c.Mount.byKey && c.Mount.path == "") {
		return "", nil
	}
	if r.config.MountBase == "" {
		return "", errors.New("executable: mount: this drone offers no mounts; start it with --mount-base, or leave mount out")
	}
	path := c.Mount.path
	if c.Mount.byKey {
		if spec.Key == "" {
			return "", errors.New("executable: mount: there is no key to name the folder for; give its path")
		}
		path = keyFolder(spec.Namespace, spec.Key)
	}
	return makeFolder(r.config.MountBase, path)
}

// checkFolder says whether a name is that of one folder. One and no path: a backend can swap
// what is in its own folder for a link at any time, also between a look at a path and the
// engine's, which follows links to anywhere, as root. The base itself no backend can write to.
func checkFolder(name string) error {
	switch {
	case strings.IndexByte(name, 0) >= 0:
		return errors.New("executable: mount contains a NUL byte; remove it")
	case strings.Contains(name, "/") || !filepath.IsLocal(name) || name == "." || len(name) > maxName:
		return fmt.Errorf("executable: mount %.200q is not the name of one folder below the drone's mount base; give a name of at most %d bytes without `/` and not `..`, such as %q",
			name, maxName, "shared")
	}
	return nil
}

// makeFolder makes the folder of that name in base and returns where it is. What is there and
// no folder, or a link to one, is refused.
func makeFolder(base, name string) (string, error) {
	fail := func(err error) (string, error) {
		if pathError, ok := errors.AsType[*fs.PathError](err); ok {
			err = pathError.Err
		}
		return "", fmt.Errorf("executable: mount %.200q below the drone's mount base cannot be used: %w", name, err)
	}
	folder := filepath.Join(base, name)
	if err := os.Mkdir(folder, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fail(err)
	}
	info, err := os.Lstat(folder)
	if err != nil {
		return fail(err)
	}
	if !info.IsDir() {
		return fail(errors.New("it is not a folder"))
	}
	return folder, nil
}

// keyFolder names the folder of a key: one path element, and never the same for two
// keys. A key of letters, digits and `-_.` in the default namespace is its own folder,
// as with Plane. `@` and `~` are ours: escaping leaves neither.
func keyFolder(namespace, key string) string {
	folder := escape(key)
	if namespace != "" {
		folder = escape(namespace) + "@" + folder
	}
	if len(folder) > maxFolder {
		sum := sha256.Sum256([]byte(folder))
		folder = folder[:maxFolder-1-2*len(sum)] + "~" + hex.EncodeToString(sum[:])
	}
	return folder
}

// escape leaves letters, digits and `-_.`, except a dot at the beginning.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' && i > 0
		if plain {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
