package dev

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/jetway-project/jetway/internal/dev/natsd"
	"github.com/jetway-project/jetway/internal/dev/postgres"
)

func (s *Stack) startNATS(context.Context) error {
	server, err := natsd.Start(natsd.Config{
		Host:     s.cfg.NATSHost,
		Port:     s.cfg.NATSPort,
		StoreDir: filepath.Join(s.cfg.Data, "nats"),
		Log:      s.cfg.Log,
	})
	if taken, ok := errors.AsType[*natsd.PortTakenError](err); ok {
		return &PortError{Flag: "--nats-port", Port: s.cfg.NATSPort, Err: taken.Err}
	}
	if err != nil {
		return err
	}
	s.NATSURL = server.URL()
	s.add("NATS server", func(context.Context) error { server.Stop(); return nil })
	return nil
}

func (s *Stack) startPostgres(ctx context.Context) error {
	binaries, err := postgres.Ensure(ctx, lines(s.cfg.Progress))
	if err != nil {
		return err
	}
	dir := filepath.Join(s.cfg.Data, "postgres")
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		s.cfg.Progress("making a Postgres database in " + dir)
	}
	cluster, err := postgres.Start(ctx, postgres.Config{Dir: dir, Binaries: binaries, Log: s.cfg.Log})
	if err != nil {
		return err
	}
	s.PostgresDSN = cluster.DSN()
	expect := s.watch("Postgres server", cluster.Done(), func() error {
		return fmt.Errorf("its log is beside %s", dir)
	})
	s.add("Postgres", func(ctx context.Context) error {
		expect()
		return cluster.Stop(ctx)
	})
	return nil
}

// lines passes on each line that is written to it. Who writes writes whole lines.
type lines func(line string)

func (l lines) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		l(strings.TrimRight(line, "\n"))
	}
	return len(p), nil
}
