package bench

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// ErrNoEngine says that no containers can be measured.
var ErrNoEngine = errors.New("only processes are measured")

// engine is a Docker engine as its command talks to it, with an image of room.
type engine struct {
	host  string // where it answers
	image string
	name  string // of containers
}

// openEngine makes an image of a program, and of nothing else.
func openEngine(ctx context.Context, program, run string) (*engine, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if _, err := exec.LookPath("docker"); err != nil {
		return nil, fmt.Errorf("the docker command is not installed: %w", ErrNoEngine)
	}
	if _, err := docker(ctx, nil, "version", "--format", "{{.Server.Version}}"); err != nil {
		return nil, fmt.Errorf("no Docker engine answers (%w): %w", err, ErrNoEngine)
	}
	host, err := docker(ctx, nil, "context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
	if err != nil {
		return nil, err
	}
	if !static(program) {
		return nil, fmt.Errorf("%s is no statically linked program for Linux, as an image of nothing else needs it (CGO_ENABLED=0 go build): %w", program, ErrNoEngine)
	}
	archive, err := archiveOf(program)
	if err != nil {
		return nil, err
	}
	e := &engine{host: host, image: "jetway-bench-" + run, name: "jetway-bench-" + run}
	if _, err := docker(ctx, archive, "import", "--change", `ENTRYPOINT ["/program"]`, "--change", "ENV HOST=0.0.0.0", "-", e.image); err != nil {
		return nil, err
	}
	return e, nil
}

// close removes the image, and what containers of it there are by a filter.
func (e *engine) close(containers string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	left, err := docker(ctx, nil, "ps", "--all", "--quiet", "--filter", containers)
	if err == nil && left != "" {
		_, err = docker(ctx, nil, append([]string{"rm", "--force", "--volumes"}, strings.Fields(left)...)...)
	}
	_, imageErr := docker(ctx, nil, "rmi", "--force", e.image)
	return errors.Join(err, imageErr)
}

// run starts a container, from before the command is executed to the first answer, and
// removes it.
func (e *engine) run(ctx context.Context) (took startTimes, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	address, err := freeAddress()
	if err != nil {
		return took, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return took, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
		defer cancel()
		if _, removeErr := docker(ctx, nil, "rm", "--force", "--volumes", e.name); removeErr != nil {
			err = errors.Join(err, removeErr)
		}
	}()
	began := time.Now()
	if _, err := docker(ctx, nil, "run", "--detach", "--publish", host+":"+port+":8080", "--name", e.name, e.image); err != nil {
		return took, err
	}
	// Not before: what is sent to a container without a network has the kernel wait for
	// a second until it looks for the container again.
	err = firstAnswer(ctx, address, nil)
	return startTimes{all: time.Since(began)}, err
}

// docker runs the command and gives what it said.
func docker(ctx context.Context, stdin []byte, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &said
	if err := cmd.Run(); err != nil {
		if text := strings.Join(strings.Fields(said.String()), " "); text != "" {
			err = errors.New(text)
		}
		return "", fmt.Errorf("docker %s: %w", args[0], err)
	}
	return strings.TrimSpace(out.String()), nil
}

// static says whether a program needs nothing but a Linux kernel.
func static(program string) bool {
	file, err := elf.Open(program)
	if err != nil {
		return false
	}
	defer file.Close()
	return !slices.ContainsFunc(file.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
}

// archiveOf is an archive with the program alone.
func archiveOf(program string) ([]byte, error) {
	content, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	var archive bytes.Buffer
	files := tar.NewWriter(&archive)
	err = files.WriteHeader(&tar.Header{Name: "program", Mode: 0o755, Size: int64(len(content))})
	if err == nil {
		_, err = files.Write(content)
	}
	return archive.Bytes(), errors.Join(err, files.Close())
}
