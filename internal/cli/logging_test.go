package cli

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// The demand: in a log of JSON a duration reads as people say it, an error that is none is not there, and what a library says
// twice stands once.
func TestLogOfJSONIsReadable(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	f := logFlags{LogLevel: "info", LogFormat: "json"}
	log, err := f.logger(&out, "worker")
	if err != nil {
		t.Fatal(err)
	}
	refused := errors.New("server refused TLS connection")
	log.Info("x", "in", 1200*time.Millisecond, "err", fmt.Errorf("tls error: %w: %w", refused, refused), "n", 3)
	log.Info("y", "err", error(nil))
	for _, want := range []string{`"in":"1.2s"`, `"err":"tls error: server refused TLS connection"`, `"n":3`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("there is no %s in %s", want, &out)
		}
	}
	if strings.Contains(out.String(), "null") {
		t.Errorf("it says null: %s", &out)
	}
}
