package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/drone/journal"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// The demand: a full disk refuses at once the spawn that finds it full, and leaves nothing of it. What
// runs goes on: all of its life can be noted, for its room is reserved, and leases be renewed.
func TestI3I5FullDiskRefusesTheSpawnThatFindsItFull(t *testing.T) {
	t.Parallel()
	dir := testkit.SmallDisk(t, 256<<10, 20)
	j, _ := open(t, dir)
	if err := j.Renew(journal.Lease{SoftAtMS: 1, HardAtMS: 2}); err != nil {
		t.Fatal(err)
	}
	const runs = 5
	for i := range runs {
		take(t, j, taken(fmt.Sprint("b-", i)))
	}
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, bytes.Repeat([]byte("x"), 256<<10), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	c := taken("b-late")
	c.Secret = secret
	if _, err := j.Take(c); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("taken on a full disk: %v", err)
	}
	if err := j.Failing(); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("it says %v", err)
	}
	for i := range runs { // the whole life
		id := fmt.Sprint("b-", i)
		for _, status := range []messages.Status{messages.Starting, messages.Waiting, messages.Ready, messages.Terminating, messages.HardTerminating} {
			j.Note(journal.Change{BackendID: id, State: &journal.State{Status: status, Begun: true, Message: "of " + id}, Report: reportOf(id, status)})
		}
		j.Note(journal.Change{BackendID: id, Over: true, Report: reportOf(id, messages.Terminated)})
	}
	if err := j.Renew(journal.Lease{SoftAtMS: 3, HardAtMS: 4}); err != nil {
		t.Fatalf("not renewed: %v", err)
	}
	next, contents := open(t, crashed(t, dir))
	if len(contents.Backends) != 0 || len(contents.Reports) != 7*runs || contents.SetAside != "" {
		t.Fatalf("the next agent finds %d backends, %d reports, %q", len(contents.Backends), len(contents.Reports), contents.SetAside)
	}
	shut(t, next)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := j.Failing(); err != nil {
		t.Fatalf("with room again: %v", err)
	}
	take(t, j, c)
	shut(t, j)
	_, contents = open(t, dir)
	if len(contents.Backends) != 1 || contents.Lease != (journal.Lease{SoftAtMS: 3, HardAtMS: 4}) {
		t.Fatalf("the next agent finds %+v", contents)
	}
}

// What cannot be written is kept, in order, and written before anything else once it can be. Not in
// parallel: the limit is the process's.
func TestI5WhatCannotBeWrittenIsWrittenLater(t *testing.T) {
	dir := t.TempDir()
	told := make(chan struct{}, 10)
	c := config(t, dir)
	c.OnChange = func() { told <- struct{}{} }
	j, _, err := journal.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	take(t, j, taken("b-0"))
	info, err := os.Stat(filepath.Join(dir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	lift := limitFiles(t, uint64(info.Size())+10) // in the middle of a line
	const notes = 20
	for i := range notes {
		j.Note(journal.Change{BackendID: "b-0", State: &journal.State{Status: messages.Ready, Message: fmt.Sprint(i)}, Report: reportOf("b-0", messages.Ready)})
	}
	if _, err := j.Take(taken("b-1")); err == nil {
		t.Fatal("it is taken on")
	}
	if j.Failing() == nil || len(told) != 1 {
		t.Fatalf("it does not say that it fails: %d", len(told))
	}
	lift()
	if err := j.Failing(); err != nil || len(told) != 2 {
		t.Fatalf("%v, said %d times", err, len(told))
	}
	shut(t, j)
	_, contents := open(t, dir)
	if len(contents.Reports) != 1+notes || contents.Backends["b-0"].Message != fmt.Sprint(notes-1) || contents.SetAside != "" {
		t.Fatalf("the next agent finds %+v", contents)
	}
}

// limitFiles makes all files of this process full at a size.
func limitFiles(t *testing.T, bytes uint64) (lift func()) {
	t.Helper()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(unix.SIGXFSZ)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	lift = func() {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(lift)
	return lift
}
