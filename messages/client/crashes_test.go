package client_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// The demand: a program that ends as soon as it is started is not started again and again. Who asks is told for how long to wait, and what
// the program said last; once the cause is mended, an operator has it started at once.
func TestAProgramThatEndsAtOnceIsBackedOff(t *testing.T) {
	t.Parallel()
	c, err := client.Connect(client.Config{URL: startStack(t)})
	must(t, err)
	t.Cleanup(c.Close)
	ctx := testkit.Context(t)
	key := messages.Key{Name: "doc", Namespace: "team"}
	start := func(executable string) (messages.ConnectResponse, error) {
		return c.Connect(ctx, messages.ConnectRequest{Key: &key, SpawnConfig: &messages.SpawnConfig{Executable: json.RawMessage(executable)}})
	}
	const failing = `{"fake":{"print":["config.json: no such file"],"run_for":"1ms","exit_code":3}}`
	lives := 0
	for { // on a slow machine the first rests may be over before the next start
		answer, refused := start(failing)
		if err = refused; err != nil {
			break
		}
		lives++
		_, err = c.Await(ctx, answer.BackendID, messages.Terminated)
		must(t, err)
	}
	var refused *messages.Error
	if !errors.As(err, &refused) || refused.Kind != messages.BackingOff || lives < 3 || refused.RetryAfterMS < 1 ||
		!strings.Contains(refused.Message, "exit code 3") || !strings.Contains(refused.Message, "config.json: no such file") {
		t.Fatalf("the start after %d lives is answered %v", lives, err)
	}
	if _, err := c.Join(ctx, key); messages.KindOf(err) != messages.KeyUnheldNoSpawnConfig {
		t.Errorf("a join is answered %v", err)
	}
	info, err := c.StatusOfKey(ctx, key)
	if err != nil || info.Crashes == nil || info.Crashes.InARow != lives {
		t.Errorf("the status says %+v, %v", info.Crashes, err)
	}
	if n, err := c.Retry(ctx, key); err != nil || n != lives {
		t.Errorf("%d failures are forgiven, %v", n, err)
	}
	answer, err := start(`{"fake":{}}`)
	must(t, err)
	_, err = c.Await(ctx, answer.BackendID, messages.Ready)
	must(t, err)
	if n, err := c.Retry(ctx, messages.Key{Name: "never"}); messages.KindOf(err) != messages.NotFound {
		t.Errorf("a key that never was: %d, %v", n, err)
	}
}
