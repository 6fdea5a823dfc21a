package docker_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/moby/moby/client"

	"github.com/jetway-project/jetway/internal/testkit"
)

// image is one that the tests' containers run: odd or room, or one of those that
// cannot run.
func image(t *testing.T, name string) string {
	t.Helper()
	engine := theEngine(t)
	shared.imported.Do(func() { shared.importErr = importImages(context.Background(), engine) })
	if shared.importErr != nil {
		t.Fatal(shared.importErr)
	}
	return imageName(name)
}

func imageName(name string) string { return "jetway-test-" + shared.run + ":" + name }

var imageChanges = map[string][]string{
	"odd":     {`ENTRYPOINT ["/odd"]`, `ENV FROM_IMAGE=yes`, `VOLUME /scratch`},
	"room":    {`ENTRYPOINT ["/room"]`, `ENV HOST=0.0.0.0`},
	"missing": {`ENTRYPOINT ["/missing"]`},
	"plain":   {`ENTRYPOINT ["/plain"]`},
	"nothing": {},
	"signal":  nil, // built from odd: an import takes no STOPSIGNAL
}

// programs are odd and room, statically linked. A test that is run once more in a network of its own
// is told by the environment where they are.
var programs struct {
	once sync.Once
	dir  string // to be removed
	err  error
}

const programsEnv = "JETWAY_TEST_PROGRAMS"

func program(name string) ([]byte, error) {
	programs.once.Do(func() {
		if os.Getenv(programsEnv) != "" {
			return
		}
		if programs.dir, programs.err = os.MkdirTemp("", "jetway-images"); programs.err == nil {
			programs.err = os.Chmod(programs.dir, 0o755) // another user's Podman is tested, too
		}
		if programs.err == nil {
			programs.err = testkit.Build(context.Background(), programs.dir, "./testdata/odd", "../../../cmd/room")
		}
		if programs.err == nil {
			programs.err = os.Setenv(programsEnv, programs.dir)
		}
	})
	if programs.err != nil {
		return nil, programs.err
	}
	return os.ReadFile(filepath.Join(os.Getenv(programsEnv), name))
}

// importImages imports an image for each program, and of those that cannot run, from nothing.
func importImages(ctx context.Context, engine *client.Client) error {
	for name, changes := range imageChanges {
		if changes == nil {
			continue
		}
		file, content, mode := "plain", []byte("not a program"), int64(0o644)
		if name == "odd" || name == "room" {
			var err error
			if content, err = program(name); err != nil {
				return err
			}
			file, mode = name, 0o755
		}
		if err := importImage(ctx, engine, imageName(name), file, content, mode, changes); err != nil {
			return fmt.Errorf("import image %s: %w", name, err)
		}
	}
	return buildImage(ctx, engine, imageName("signal"), "FROM "+imageName("odd")+"\nSTOPSIGNAL SIGKILL\n")
}

func buildImage(ctx context.Context, engine *client.Client, ref, dockerfile string) error {
	said, err := engine.ImageBuild(ctx, tarOf("Dockerfile", []byte(dockerfile), 0o644), client.ImageBuildOptions{Tags: []string{ref}, Remove: true})
	if err != nil {
		return fmt.Errorf("build image %s: %w", ref, err)
	}
	defer said.Body.Close()
	_, err = io.Copy(io.Discard, said.Body)
	return err
}

// tarOf is an archive with one file. Writing to a buffer does not fail.
func tarOf(name string, content []byte, mode int64) io.Reader {
	var archive bytes.Buffer
	files := tar.NewWriter(&archive)
	_ = files.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(content))})
	_, _ = files.Write(content)
	_ = files.Close()
	return &archive
}

func importImage(ctx context.Context, engine *client.Client, ref, file string, content []byte, mode int64, changes []string) error {
	said, err := engine.ImageImport(ctx, client.ImageImportSource{Source: tarOf(file, content, mode), SourceName: "-"}, ref, client.ImageImportOptions{Changes: changes})
	if err != nil {
		return err
	}
	defer said.Close()
	_, err = io.Copy(io.Discard, said)
	return err
}
