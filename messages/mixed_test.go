package messages_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/jetway-project/jetway/messages"
)

// testdata/peers has a folder for each build whose workers, drones, proxies and web tiers later ones run beside: its
// messages, with all fields set and, below least, with all left out that may be. No file there is ever changed. A
// build that is released and says more gets a folder of its own: copy the golden files, and run this test with -update.
const peers = "testdata/peers"

// unchanged is the sum of each folder's files.
var unchanged = map[string]string{
	"2026-11-29": "936bf1610f625ec2",
}

// timed are messages without a field, drone_time_ms, that may be demanded all the same: every build has always said it, and deadlines
// that count from a time that nobody stated would be over.
var timed = []string{"register_request", "heartbeat_request"}

// eachPeer runs a test with each message of each such build.
func eachPeer(t *testing.T, test func(t *testing.T, name string, data []byte)) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(peers, "*", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no messages of other builds: %v", err)
	}
	least, err := filepath.Glob(filepath.Join(peers, "*", "least", "*.json"))
	if err != nil || len(least) == 0 {
		t.Fatalf("there are no least messages of other builds: %v", err)
	}
	for _, path := range append(files, least...) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if name := strings.TrimSuffix(filepath.Base(path), ".json"); slices.Contains(timed, name) && !bytes.Contains(data, []byte(`"drone_time_ms"`)) {
			data = bytes.Replace(data, []byte("{"), []byte(`{"drone_time_ms": 1,`), 1)
		}
		t.Run(strings.TrimSuffix(strings.TrimPrefix(path, peers+"/"), ".json"), func(t *testing.T) {
			test(t, strings.TrimSuffix(filepath.Base(path), ".json"), data)
		})
	}
}

// readAs reads a message as this build does.
func readAs(name string, data []byte) (any, error) {
	for _, d := range decoders {
		if d.name != name {
			continue
		}
		if err := d.decode(data); err != nil {
			return nil, err
		}
	}
	like, ok := golden[name]
	if !ok {
		return nil, fmt.Errorf("this build has no %s", name)
	}
	v := reflect.New(reflect.TypeOf(like).Elem()).Interface()
	return v, json.Unmarshal(data, v)
}

// What a peer of an earlier build says is understood, whole, and what it waits for is still said.
func TestMessagesOfEarlierBuildsAreReadWhole(t *testing.T) {
	eachPeer(t, func(t *testing.T, name string, data []byte) {
		t.Helper()
		v, err := readAs(name, data)
		if err != nil {
			t.Fatal(err)
		}
		var theirs, ours any
		if err := json.Unmarshal(data, &theirs); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(messages.Encode(v), &ours); err != nil {
			t.Fatal(err)
		}
		missing(t, name, theirs, ours)
	})
}

// missing reports what is in theirs and not in ours.
func missing(t *testing.T, at string, theirs, ours any) {
	t.Helper()
	switch theirs := theirs.(type) {
	case map[string]any:
		object, _ := ours.(map[string]any)
		for name, v := range theirs {
			missing(t, at+"."+name, v, object[name])
		}
	case []any:
		list, _ := ours.([]any)
		if len(list) != len(theirs) {
			t.Errorf("%s has %d entries for %d", at, len(list), len(theirs))
			return
		}
		for i := range theirs {
			missing(t, fmt.Sprintf("%s[%d]", at, i), theirs[i], list[i])
		}
	default:
		if !reflect.DeepEqual(theirs, ours) {
			t.Errorf("%s is %v for %v", at, ours, theirs)
		}
	}
}

// What a later build may say besides, in any object, changes nothing for this one.
func TestFieldsOfLaterBuildsChangeNothing(t *testing.T) {
	eachPeer(t, func(t *testing.T, name string, data []byte) {
		t.Helper()
		want, err := readAs(name, data)
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal(data, &v); err != nil {
			t.Fatal(err)
		}
		more, err := json.Marshal(later(v))
		if err != nil {
			t.Fatal(err)
		}
		got, err := readAs(name, more)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.Transformer("JSON", func(raw json.RawMessage) (v any) {
			_ = json.Unmarshal(raw, &v)
			return v
		})); diff != "" {
			t.Error(diff)
		}
	})
}

// later gives each object one more field, but for those that the bus only carries.
func later(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name := range v {
			if name != "executable" && name != "auth" {
				v[name] = later(v[name])
			}
		}
		v["of_a_later_build"] = map[string]any{"x": []any{1, nil}}
	case []any:
		for i := range v {
			v[i] = later(v[i])
		}
	}
	return v
}

func TestMessagesOfEarlierBuildsAreLeftAsTheyWere(t *testing.T) {
	folders, err := os.ReadDir(peers)
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		path := filepath.Join(peers, folder.Name())
		if *update && unchanged[folder.Name()] == "" {
			writeLeast(t, path)
		}
		sum := sha256.New()
		if err := fs.WalkDir(os.DirFS(path), ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(filepath.Join(path, name))
			fmt.Fprintf(sum, "%s %d\n%s", name, len(data), data)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%.8x", sum.Sum(nil)); got != unchanged[folder.Name()] {
			t.Errorf("the sum of %s is %s, not %q: what a build has said that others run beside is never changed", path, got, unchanged[folder.Name()])
		}
	}
	if len(folders) != len(unchanged) {
		t.Errorf("there are %d folders, and sums of %d", len(folders), len(unchanged))
	}
}

// writeLeast makes the smallest valid form of each message of a folder that is validated: what this build lets its peers leave
// out may never be demanded.
func writeLeast(t *testing.T, folder string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(folder, "least"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, d := range decoders {
		data, err := os.ReadFile(filepath.Join(folder, d.name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal(data, &v); err != nil {
			t.Fatal(err)
		}
		shrink(v, func() bool { return d.decode(messages.Encode(v)) == nil })
		data, err = json.MarshalIndent(v, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, "least", d.name+".json"), append(data, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// shrink leaves out of objects within v what may be.
func shrink(v any, valid func() bool) {
	switch v := v.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			field := v[name]
			if delete(v, name); !valid() {
				v[name] = field
				if name != "executable" && name != "auth" {
					shrink(field, valid)
				}
			}
		}
	case []any:
		for i := range v {
			shrink(v[i], valid)
		}
	}
}
