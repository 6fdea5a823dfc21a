package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

// start starts etcd and an apiserver, with all the admission that it has by itself, and waits until it is ready.
// Both end with the process.
func start(ctx context.Context, dir string) (*rest.Config, error) {
	var ports [3]int
	for i := range ports {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		ports[i] = listener.Addr().(*net.TCPAddr).Port
		if err := listener.Close(); err != nil {
			return nil, err
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	signs, tokens := filepath.Join(dir, "signs.pem"), filepath.Join(dir, "tokens.csv")
	token := rand.Text()
	if err := errors.Join(
		os.WriteFile(signs, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600),
		os.WriteFile(tokens, []byte(token+",check,check,system:masters\n"), 0o600),
	); err != nil {
		return nil, err
	}
	return serve(ctx, dir, ports, signs, tokens, token)
}

func serve(ctx context.Context, dir string, ports [3]int, signs, tokens, token string) (*rest.Config, error) {
	at := func(i int) []url.URL { return []url.URL{{Scheme: "http", Host: fmt.Sprint("127.0.0.1:", ports[i])}} }
	store := embed.NewConfig()
	store.Dir, store.LogLevel, store.UnsafeNoFsync = filepath.Join(dir, "etcd"), "error", true
	store.ListenClientUrls, store.AdvertiseClientUrls = at(0), at(0)
	store.ListenPeerUrls, store.AdvertisePeerUrls = at(1), at(1)
	store.InitialCluster = store.InitialClusterFromName(store.Name)
	etcd, err := embed.StartEtcd(store)
	if err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	select {
	case <-etcd.Server.ReadyNotify():
	case <-ctx.Done():
		return nil, fmt.Errorf("etcd: %w", ctx.Err())
	}
	server := app.NewAPIServerCommand()
	server.SilenceErrors, server.SilenceUsage = true, true
	server.SetArgs([]string{
		"--etcd-servers=" + at(0)[0].String(), "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none", fmt.Sprint("--secure-port=", ports[2]), "--cert-dir=" + filepath.Join(dir, "certs"),
		"--service-cluster-ip-range=10.0.0.0/24", "--service-account-issuer=https://check.test", "--service-account-signing-key-file=" + signs,
		"--service-account-key-file=" + signs, "--token-auth-file=" + tokens, "--authorization-mode=Node,RBAC", "--v=0",
	})
	failed := make(chan error, 1)
	go func() { failed <- server.Execute() }()
	config := &rest.Config{Host: fmt.Sprint("https://127.0.0.1:", ports[2]), BearerToken: token}
	config.CAFile = filepath.Join(dir, "certs", "apiserver.crt")
	for every := time.NewTicker(200 * time.Millisecond); ; {
		select {
		case err := <-failed:
			return nil, fmt.Errorf("the apiserver has ended: %w", err)
		case <-ctx.Done():
			return nil, fmt.Errorf("the apiserver is not ready: %w", ctx.Err())
		case <-every.C:
		}
		client, err := kubernetes.NewForConfig(config) // which reads the certificate that the server makes
		if err == nil && client.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error() == nil {
			return config, nil
		}
	}
}
