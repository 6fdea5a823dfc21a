package docker

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A key's folder is one path element, and no other key's.
func TestKeyFolders(t *testing.T) {
	t.Parallel()
	for key, want := range map[[2]string]string{
		{"", "doc-1"}: "doc-1", {"", "a.b_C"}: "a.b_C", {"", ".."}: "%2E.", {"", "."}: "%2E", {"", ".hidden"}: "%2Ehidden",
		{"", "a/b"}: "a%2Fb", {"a", "b"}: "a@b", {"", "a@b"}: "a%40b", {"", "é"}: "%C3%A9", {"", "a%2Fb"}: "a%252Fb", {"~", ""}: "%7E@",
	} {
		if got := keyFolder(key[0], key[1]); got != want {
			t.Errorf("%q: got %q, want %q", key, got, want)
		}
	}
	text := rapid.OneOf(rapid.StringOfN(rapid.RuneFrom([]rune("a.@~%/é")), 0, 4, -1), rapid.StringN(0, 255, 255))
	rapid.Check(t, func(t *rapid.T) {
		ns1, key1, ns2, key2 := text.Draw(t, "ns1"), text.Draw(t, "key1"), text.Draw(t, "ns2"), text.Draw(t, "key2")
		one, two := keyFolder(ns1, key1), keyFolder(ns2, key2)
		if (one == two) != (ns1 == ns2 && key1 == key2) {
			t.Fatalf("%q %q and %q %q: %q and %q", ns1, key1, ns2, key2, one, two)
		}
		if len(one) > maxFolder || strings.ContainsAny(one, "/\x00") || one == "." || one == ".." {
			t.Fatalf("folder %q", one)
		}
	})
}

// No path made of these parts leads to a folder outside the base.
func TestNoMountLeadsOutOfTheBase(t *testing.T) {
	t.Parallel()
	parent, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(parent, "base")
	for _, dir := range []string{base, filepath.Join(base, "in"), filepath.Join(parent, "out")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	links := []string{"up", "top", "same", "abs", "inside", "out", "loop"}
	for n, target := range []string{"..", "/", ".", parent, "in", "../out", "loop"} {
		if err := os.Symlink(target, filepath.Join(base, links[n])); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(base, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.SampledFrom([]string{
			"..", ".", "", "in", "up", "top", "same", "abs", "inside", "out", "loop", "file", "new", "base", parent,
		}), 1, 6).Draw(t, "parts")
		path := strings.Join(parts, rapid.SampledFrom([]string{"/", ""}).Draw(t, "between"))
		if checkFolder(path) != nil {
			return
		}
		folder, err := makeFolder(base, path)
		if err != nil {
			return
		}
		real, err := filepath.EvalSymlinks(folder)
		if err != nil || real != folder || !strings.HasPrefix(real, base+"/") {
			t.Fatalf("%q was accepted and leads to %q (%v)", path, real, err)
		}
		if first, _, _ := strings.Cut(filepath.Clean(path), "/"); slices.Contains(links, first) {
			t.Fatalf("%q was accepted", path)
		}
	})
	for _, dir := range []string{parent, filepath.Join(parent, "out")} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if entry.Name() != "base" && entry.Name() != "out" {
				t.Fatalf("%s was made in %s", entry.Name(), dir)
			}
		}
	}
}
