// Command check reads files that `helm template` wrote, and asks a real apiserver, with a dry run of its own, whether it would take what they
// hold: without unknown fields, without a warning, and the pods of each role with the pod security level that values.yaml says.
// What no apiserver sees, it sees to itself: that what selects pods selects those of one role, and that ports are called by names that these have.
//
//	check FILE…
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"k8s.io/klog/v2"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "check:", err)
		os.Exit(1)
	}
}

func run(files []string) error {
	if len(files) == 0 {
		return errors.New("name files that helm template wrote")
	}
	klog.SetSlogLogger(slog.New(slog.DiscardHandler))
	dir, err := os.MkdirTemp("", "jetway-apiserver")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	config, err := start(ctx, dir)
	if err != nil {
		return err
	}
	a, err := newAsked(ctx, config)
	if err != nil {
		return err
	}
	for _, file := range files {
		objects, err := read(file)
		if err == nil {
			err = sound(objects)
		}
		for _, object := range objects {
			if err == nil {
				err = a.dryRun(ctx, object)
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		fmt.Printf("%s: Kubernetes %s takes its %d objects\n", file, a.version, len(objects))
	}
	return nil
}
