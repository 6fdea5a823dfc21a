package cli

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/nats-io/jsm.go/natscontext"
	"github.com/nats-io/nkeys"
)

// check looks at the files that say who we are and whom we trust, those of the
// context included. The NATS client reads some of them only once it is connected,
// and says little of what is wrong.
func (f *natsFlags) check(nctx *natscontext.Context, context string) error {
	named := func(flag, given, file string) string {
		if given == "" {
			flag = "the " + strings.TrimPrefix(flag, "--") + " of context " + context + ","
		}
		return flag + " " + file
	}
	creds, nkey := f.Creds, f.Nkey
	if creds == "" && nkey == "" && nctx.User() == "" {
		if creds = localFile(nctx.Creds()); creds == "" {
			nkey = localFile(nctx.NKey())
		}
	}
	if creds != "" {
		if err := checkCreds(named("--creds", f.Creds, creds), creds); err != nil {
			return err
		}
	}
	if nkey != "" {
		if err := checkNkey(named("--nkey", f.Nkey, nkey), nkey); err != nil {
			return err
		}
	}
	if ca := localFile(nctx.CA()); ca != "" {
		if err := checkCA(named("--tls-ca", f.TLSCA, ca), ca); err != nil {
			return err
		}
	}
	cert, key := localFile(nctx.Certificate()), localFile(nctx.Key())
	if cert != "" && key != "" {
		return checkPair(named("--tls-cert", f.TLSCert, cert), cert, named("--tls-key", f.TLSKey, key), key)
	}
	return nil
}

// localFile gives the file that a context refers to; "" for what is elsewhere.
func localFile(ref string) string {
	ref = strings.TrimPrefix(ref, "file://")
	if strings.Contains(ref, "://") || strings.HasPrefix(ref, "data:") {
		return ""
	}
	return ref
}

func checkCreds(what, file string) error {
	data, err := readSecret(what, file)
	if err != nil {
		return err
	}
	defer wipe(data)
	if _, err := nkeys.ParseDecoratedJWT(data); err != nil || !bytes.Contains(data, []byte("USER JWT")) {
		return fileFailure(what, "holds no user JWT", "give the file that nsc generate creds wrote; an nkey seed goes with --nkey")
	}
	pair, err := nkeys.ParseDecoratedUserNKey(data)
	if err != nil {
		return fileFailure(what, "holds no user's seed (SU…)", "give the file that nsc generate creds wrote")
	}
	pair.Wipe()
	return nil
}

func checkNkey(what, file string) error {
	data, err := readSecret(what, file)
	if err != nil {
		return err
	}
	defer wipe(data)
	pair, err := nkeys.ParseDecoratedNKey(data)
	if err != nil {
		return fileFailure(what, "holds no nkey seed (SU…)", "give the seed of a user, not its public key (U…); a credentials file goes with --creds")
	}
	defer pair.Wipe()
	if public, err := pair.PublicKey(); err != nil || !nkeys.IsValidPublicUserKey(public) {
		return fileFailure(what, "holds the seed of something else than a user", "give the seed of a user (SU…)")
	}
	return nil
}

func checkCA(what, file string) error {
	data, err := readFile(what, file)
	if err != nil {
		return err
	}
	if !x509.NewCertPool().AppendCertsFromPEM(data) {
		return fileFailure(what, "holds no certificate", "give one or more in PEM form")
	}
	return nil
}

func checkPair(certWhat, cert, keyWhat, key string) error {
	certData, err := readFile(certWhat, cert)
	if err != nil {
		return err
	}
	keyData, err := readSecret(keyWhat, key)
	if err != nil {
		return err
	}
	defer wipe(keyData)
	if _, err := tls.X509KeyPair(certData, keyData); err != nil {
		return fileFailure(certWhat+" and "+keyWhat, strings.TrimPrefix(err.Error(), "tls: "), "give a certificate and its key, both in PEM form")
	}
	return nil
}

// readSecret reads a file that only its owner, and a group that he chose, may read.
func readSecret(what, file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, badFile(what, err)
	}
	if mode := info.Mode().Perm(); !info.IsDir() && mode&0o027 != 0 {
		return nil, fileFailure(what, fmt.Sprintf("is open to others than its owner (mode %04o)", mode), "chmod 600 it, and make a new key if others may have read it")
	}
	return readFile(what, file)
}

func readFile(what, file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err == nil && info.IsDir() {
		return nil, fileFailure(what, "is a directory", "name a file")
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, badFile(what, err)
	}
	return data, nil
}

// badFile is a file that cannot be read.
func badFile(what string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fileFailure(what, "there is no such file", "make it, or name another")
	case errors.Is(err, fs.ErrPermission):
		return fileFailure(what, "we may not read it", "give it to the user that runs jetway")
	}
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err
	}
	return fileFailure(what, err.Error(), "name a file that can be read")
}

func fileFailure(what, why, do string) error {
	return &failure{what: what + ": " + why, kind: "usage", do: do, code: ExitUsage}
}

// wipe leaves no secret behind in memory that is used again.
func wipe(data []byte) {
	for i := range data {
		data[i] = 'x'
	}
}
