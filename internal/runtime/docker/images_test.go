package docker_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/moby/client"

	"github.com/jetway-project/jetway/internal/testkit"
)

// image is one that the tests' containers run: odd or room, or one of those that
// cannot run.
func image(t *testing.T, name string) string {
	t.Helper()
	engine := theEngine(t)
	shared.built.Do(func() { shared.buildErr = buildImages(context.Background(), engine) })
	if shared.buildErr != nil {
		t.Fatal(shared.buildErr)
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

// buildImages builds the programs and imports an image for each, from nothing.
func buildImages(ctx context.Context, engine *client.Client) error {
	dir, err := os.MkdirTemp("", "jetway-images")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := testkit.Build(ctx, dir, "./testdata/odd", "../../../cmd/room"); err != nil {
		return err
	}
	shared.programs = map[string][]byte{}
	for _, program := range []string{"odd", "room"} {
		if shared.programs[program], err = os.ReadFile(filepath.Join(dir, program)); err != nil {
			return err
		}
	}
	for name, changes := range imageChanges {
		if changes == nil {
			continue
		}
		program, mode := name, int64(0o755)
		switch name {
		case "missing", "plain", "nothing":
			program, mode = "plain", 0o644
		}
		content := []byte("not a program")
		if program != "plain" {
			content = shared.programs[program]
		}
		if err := importImage(ctx, engine, imageName(name), program, content, mode, changes); err != nil {
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

func importImage(ctx context.Context, engine *client.Client, ref, program string, content []byte, mode int64, changes []string) error {
	said, err := engine.ImageImport(ctx, client.ImageImportSource{Source: tarOf(program, content, mode), SourceName: "-"}, ref, client.ImageImportOptions{Changes: changes})
	if err != nil {
		return err
	}
	defer said.Close()
	_, err = io.Copy(io.Discard, said)
	return err
}
