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

// maxFolder bounds the name of a key's folder, in bytes; the kernel's bound is 255.
const maxFolder = 200

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

// checkMountPath says whether a path stays below the mount base by its text alone.
func checkMountPath(path string) error {
	switch {
	case strings.IndexByte(path, 0) >= 0:
		return errors.New("executable: mount contains a NUL byte; remove it")
	case !filepath.IsLocal(path) || filepath.Clean(path) == ".":
		return fmt.Errorf("executable: mount %.200q does not lead below the drone's mount base; give a relative path without `..`", path)
	}
	return nil
}

// makeFolder makes the folder at path below base and returns where it is. A backend
// can put symbolic links into its folder, which the engine would follow to anywhere,
// as root: so there may be none on the way. os.Root keeps the making inside, and the
// comparison afterwards refuses the links that lead to somewhere else below base.
func makeFolder(base, path string) (string, error) {
	fail := func(err error) (string, error) {
		if pathError, ok := errors.AsType[*fs.PathError](err); ok {
			err = pathError.Err
		}
		return "", fmt.Errorf("executable: mount %.200q below the drone's mount base cannot be used: %w", path, err)
	}
	base, err := filepath.EvalSymlinks(base)
	if err != nil {
		return fail(err)
	}
	root, err := os.OpenRoot(base)
	if err != nil {
		return fail(err)
	}
	defer root.Close()
	if err := root.MkdirAll(path, 0o755); err != nil {
		return fail(err)
	}
	folder := filepath.Join(base, path)
	if real, err := filepath.EvalSymlinks(folder); err != nil || real != folder {
		return fail(errors.New("there is a symbolic link on the way"))
	}
	info, err := os.Stat(folder)
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
