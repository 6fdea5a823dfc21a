package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
)

// The demand: token-key makes a file that a worker takes, closed to others, and adds a key where it only opens, until somebody moves it.
func TestTokenKeyMakesAndExtendsAFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token-keys")
	var ids []string
	for n := range 3 {
		stdout, stderr, code := jetway(t, "token-key", file)
		wantCode(t, code, 0)
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var keys lease.Keys
		if err := keys.Replace(data); err != nil || len(keys.IDs()) != n+1 || !strings.Contains(stdout, keys.IDs()[n]) || stderr != "" {
			t.Fatalf("after %d the file has %v, %v; said: %s %s", n+1, keys.IDs(), err, stdout, stderr)
		}
		if ids != nil && strings.Join(keys.IDs()[:n], " ") != strings.Join(ids, " ") {
			t.Errorf("the keys are %v, and were %v", keys.IDs(), ids)
		}
		for line := range strings.FieldsSeq(string(data)) {
			if strings.Contains(stdout, line) {
				t.Error("a key that is in a file is printed, too")
			}
		}
		ids = keys.IDs()
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm()&0o027 != 0 {
		t.Errorf("the file is open to others: %v, %v", info.Mode(), err)
	}
	printed, _, code := jetway(t, "token-key")
	wantCode(t, code, 0)
	if err := new(lease.Keys).Replace([]byte(printed)); err != nil || strings.Count(printed, "\n") != 1 {
		t.Errorf("printed is %q, %v", printed, err)
	}
	if _, stderr, code := jetway(t, "token-key", filepath.Join(file, "x")); code != ExitUsage || !strings.Contains(stderr, "not a directory") {
		t.Errorf("a bad place: %d, %s", code, stderr)
	}
}

// The demand: a bad file of keys ends a worker that starts with what is wrong and what to do, without the key.
func TestWorkerRefusesBadFilesOfKeys(t *testing.T) {
	t.Parallel()
	key := lease.NewKey()
	for file, why := range map[string]string{
		"/does/not/exist":                       "there is no such file (usage): make it, or name another",
		t.TempDir():                             "is a directory (usage)",
		writeFile(t, key, 0o644):                "is open to others than its owner (mode 0644) (usage): chmod 600 it",
		writeFile(t, "", 0o600):                 "there is no key in it (usage): give a file as jetway token-key FILE makes it",
		writeFile(t, "# none\nsecret", 0o600):   "line 2 is no key: one begins with jwtk0_ (usage)",
		writeFile(t, key[:30], 0o600):           "line 1 is no whole key",
		writeFile(t, key+"\n"+key+"\n", 0o600):  "line 2 is the key of a line before",
		writeFile(t, "\x00\xff"+key[:4], 0o600): "line 1 is no key",
	} {
		_, stderr, code := jetway(t, "worker", "--postgres", "host=/nowhere", "--nats", "nats://127.0.0.1:1", "--token-key-file", file)
		if code != ExitUsage || !strings.Contains(stderr, "--token-key-file "+file+": "+why) || strings.Contains(stderr, key[10:20]) {
			t.Errorf("%s: %d, %s, want %s", file, code, stderr, why)
		}
	}
}

// The demand: the file of keys is read again when it changes; what cannot be used is said once, and the keys before stay.
func TestTokenKeysAreReadAgain(t *testing.T) {
	t.Parallel()
	first, second := lease.NewKey(), lease.NewKey()
	file := writeFile(t, first, 0o600)
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	var both lease.Keys
	if err := both.Replace([]byte(second + "\n" + first)); err != nil {
		t.Fatal(err)
	}
	worker := begin(t, "worker", "--postgres", "host=/nowhere", "--nats", natstest.Server(t).URL(), "--name", "wo-keys", "--token-key-file", file, "--log-format", "json")
	worker.stderr.await(t, regexp.QuoteMeta(both.IDs()[1]))
	put("nonsense")
	worker.stderr.await(t, "cannot be used, those known before stay.*line 1 is no key")
	put(second + "\n" + first)
	worker.stderr.await(t, both.IDs()[0]+`","`+both.IDs()[1])
}
