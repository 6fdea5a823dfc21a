package cli

import (
	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
)

// which names one backend: by its id, or by the key that it holds or held last.
type which struct {
	Backend   string `arg:"" optional:"" predictor:"backend" help:"Id of the backend."`
	Key       string `placeholder:"NAME" help:"Name a key instead of an id: this is the backend that owns the key, or owned it last."`
	Namespace string `placeholder:"NAME" help:"Namespace of the key."`
}

// check says what is wrong with it, before anybody is asked.
func (w *which) check(needed bool) error {
	switch {
	case w.Key != "" && w.Backend != "":
		return usagef("--key: give it or a backend's id, not both")
	case w.Key == "" && w.Namespace != "":
		return usagef("--namespace: needs --key")
	case w.Key == "" && w.Backend == "" && needed:
		return usagef("BACKEND: is missing; name a backend's id, or a key with --key")
	case w.Backend == "":
		return nil
	}
	if err := messages.CheckBackendID(w.Backend); err != nil {
		return invalid(err)
	}
	return nil
}

// find fills in the id of the backend of a key.
func (w *which) find(r *run, f *clientFlags, nc *nats.Conn) error {
	if w.Key == "" {
		return nil
	}
	info, err := ask[messages.BackendInfo](r, f, nc, messages.SubjectStatus,
		messages.StatusRequest{Key: &messages.Key{Name: w.Key, Namespace: w.Namespace}})
	w.Backend = info.BackendID
	return err
}

// open checks what is named, connects, and finds it; the caller closes.
func (w *which) open(r *run, f *clientFlags) (*nats.Conn, error) {
	if err := w.check(true); err != nil {
		return nil, err
	}
	nc, err := f.open(r)
	if err != nil {
		return nil, err
	}
	if err := w.find(r, f, nc); err != nil {
		nc.Close()
		return nil, err
	}
	return nc, nil
}
