package certs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/testkit"
)

func move(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// files gives the paths of a certificate and its key in a directory of their own.
func certFiles(t *testing.T) (cert, key string) {
	t.Helper()
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	newCert, newKey := testkit.NewAuthority(t).Server()
	move(t, newKey, key)
	move(t, newCert, cert)
	return cert, key
}

// A new pair is served without a restart; what is no pair is not, and is said once.
func TestFilesAreReadAgainWhenTheyChange(t *testing.T) {
	t.Parallel()
	cert, key := certFiles(t)
	f := newFront(t)
	k, l, _ := f.serve("", Config{CertFile: cert, KeyFile: key, HTTP: f.plain, settle: 20 * time.Millisecond})
	first := f.await("localhost", "the certificate", anyOne)

	newCert, newKey := testkit.NewAuthority(t).Server()
	move(t, newCert, cert)
	l.await("cannot take the new certificate, the old one goes on")
	f.await("localhost", "the old certificate", first.Equal)
	// Other changes there do not say it again.
	other := filepath.Join(filepath.Dir(cert), "other")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	move(t, newKey, key)
	l.await("took the new certificate")
	if leaf := f.leaf("localhost"); leaf == nil || leaf.Equal(first) {
		t.Error("the old certificate is still shown")
	}
	if n := strings.Count(l.String(), "level=ERROR"); n != 1 {
		t.Errorf("said %d times", n)
	}
	if list := k.Certificates(); len(list) != 1 || list[0].Name != "localhost" {
		t.Errorf("in use: %+v", list)
	}

	// Gone files are bad files.
	second := f.leaf("localhost")
	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	l.await("no such file")
	f.await("localhost", "the old certificate", second.Equal)
}

// As Kubernetes replaces secrets: a link to a directory is made to lead to another one.
func TestFilesBehindALinkAreReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret := func(name string) {
		cert, key := certFiles(t)
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		move(t, cert, filepath.Join(dir, name, "tls.crt"))
		move(t, key, filepath.Join(dir, name, "tls.key"))
		if err := os.Symlink(name, filepath.Join(dir, "..new")); err != nil {
			t.Fatal(err)
		}
		move(t, filepath.Join(dir, "..new"), filepath.Join(dir, "..data"))
	}
	secret("..1")
	for _, file := range []string{"tls.crt", "tls.key"} {
		if err := os.Symlink(filepath.Join("..data", file), filepath.Join(dir, file)); err != nil {
			t.Fatal(err)
		}
	}
	f := newFront(t)
	_, l, _ := f.serve("", Config{CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key")})
	f.await("localhost", "the certificate", anyOne)
	secret("..2")
	l.await("took the new certificate")
}

func TestBadFilesAreRefusedAtTheStart(t *testing.T) {
	t.Parallel()
	cert, key := certFiles(t)
	_, otherKey := certFiles(t)
	for want, cfg := range map[string]Config{
		"no such file":       {CertFile: cert + "x", KeyFile: key},
		"no certificate and": {CertFile: cert, KeyFile: otherKey},
		"needs its key":      {CertFile: cert},
		"one of them":        {CertFile: cert, KeyFile: key, ACME: &ACME{}},
		"by ACME":            {},
	} {
		if k, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, %v", cfg, k, err)
		}
	}
}
