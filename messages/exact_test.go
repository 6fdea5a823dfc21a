package messages_test

import (
	"strings"
	"testing"

	"github.com/jetway-project/jetway/messages"
)

// The demand: what Jetway reads is what every strict reader reads. A name that stands twice is refused, wherever it
// stands, and the refusal says where.
func TestDuplicateNamesAreRefusedAtEveryDepth(t *testing.T) {
	t.Parallel()
	for payload, path := range map[string]string{
		`{"key":{"name":"a"},"key":{"name":"b"}}`:                                                           "key",
		`{"key":{"name":"a","n\u0061me":"b"}}`:                                                              "key.name",
		`{"key":{"name":"a"},"spawn_config":{"executable":{"command":["a"],"command":["b"]}}}`:              "spawn_config.executable.command",
		`{"key":{"name":"a"},"spawn_config":{"executable":{"x":[{},{"y":1,"y":2}]}}}`:                       "spawn_config.executable.x[1].y",
		`{"key":{"name":"a"},"auth":{"role":"reader","role":"owner"}}`:                                      "auth.role",
		`{"key":{"name":"a"},"of_a_later_build":{"x":1,"x":1}}`:                                             "of_a_later_build.x",
		`{"key":{"name":"a"},"of_a_later_build":1,"of_a_later_build":1}`:                                    "of_a_later_build",
		`{"key":{"name":"a"},"auth":{"a b":1,"a b":1}}`:                                                     `auth["a b"]`,
		`{"key":{"name":"a"},"spawn_config":{"executable":{"env":{"é":"1","\u00e9":"2"}},"executable":{}}}`: `spawn_config.executable.env["é"]`,
	} {
		_, err := messages.Decode[messages.ConnectRequest]([]byte(payload))
		if want := "BadRequest: " + path + ": is there twice"; err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, wanted %s…", payload, err, want)
		}
	}
}

// The demand: names are exact. What differs in case, or folds to a name, is another field, and ignored like any that is not known.
func TestNamesAreExact(t *testing.T) {
	t.Parallel()
	for _, other := range []string{
		`"Key":{"name":"x","namespace":"theirs"}`, `"KEY":null`, `"\u212aey":{"name":"x"}`, `"\u017fpawn_config":{"executable":{}}`, `"key ":{"name":"x"}`,
	} {
		for _, payload := range []string{
			`{"key":{"name":"a","namespace":"mine","Namespace":"theirs"},` + other + `}`,
			`{` + other + `,"key":{"name":"a","NAMESPACE":"theirs","namespace":"mine"}}`,
		} {
			r, err := messages.Decode[messages.ConnectRequest]([]byte(payload))
			if err != nil || r.Key == nil || *r.Key != (messages.Key{Name: "a", Namespace: "mine"}) || r.SpawnConfig != nil {
				t.Errorf("%s: %+v, %v", payload, r, err)
			}
		}
	}
}

// The demand: 60.0 is a whole number, as JSON Schema has it: Python's json.dumps(60.0), PHP's json_encode(60.0)
// with JSON_PRESERVE_ZERO_FRACTION and Java's double write it so; 6.0E1 is Java's too.
func TestWholeNumbersInEveryNotation(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"60": 60, "60.0": 60, "6e1": 60, "6.0E1": 60, "0.6e2": 60, "3.0E8": 3e8} {
		r, err := messages.Decode[messages.ConnectRequest]([]byte(`{"key":{"name":"a"},"user":"u","token_lifetime_seconds":` + text + `}`))
		if err != nil || *r.TokenLifetimeSeconds != want || r.User != "u" {
			t.Errorf("%s: %+v, %v", text, r, err)
		}
	}
	k, err := messages.Decode[messages.KeepaliveRequest]([]byte(`{"backends":["a","b"],"idle_ms":[0,1500.0]}`))
	if err != nil || len(k.IdleMS) != 2 || k.IdleMS[1] != 1500 {
		t.Errorf("%+v, %v", k, err)
	}
	for _, text := range []string{"1.5", "60.00000001", "1e30", "-1e30", "9007199254740994.0", "1e-1", `"60"`, "99999999999999999999", "[60]"} {
		_, err := messages.Decode[messages.ConnectRequest]([]byte(`{"token_lifetime_seconds":` + text + `}`))
		if err == nil || !strings.HasPrefix(err.Error(), "BadRequest: token_lifetime_seconds: ") {
			t.Errorf("%s: %v", text, err)
		}
	}
	if s, err := messages.Decode[messages.Stats]([]byte(`{"backend_id":"b","mem_used":-1.0}`)); err == nil {
		t.Errorf("less than nothing is %d", s.MemUsed)
	}
}

// The demand: who sends no text reads that, in words, and no type of Go's.
func TestWrongJSONIsSaidInPlainWords(t *testing.T) {
	t.Parallel()
	connect, report, drones := messages.Decode[messages.ConnectRequest], messages.Decode[messages.ReportRequest], messages.Decode[messages.DronesRequest]
	for _, c := range []struct {
		decode        func([]byte) error
		payload, want string
	}{
		{decoderOf(connect), "\xef\xbb\xbf{}", "the payload begins with a byte order mark (BOM): send the JSON without it"},
		{decoderOf(connect), "{\"user\":\"\xff\"}", "the payload is not UTF-8: encode the JSON in UTF-8"},
		{decoderOf(connect), `{"auth":{"a":"\ud800"}}`, `auth.a: holds half of a surrogate pair (\ud800 to \udfff alone), which is no text: send whole characters`},
		{decoderOf(connect), `{"key":{"name":"\udc00x"}}`, `key.name: holds half of a surrogate pair (\ud800 to \udfff alone), which is no text: send whole characters`},
		{decoderOf(connect), `{"key":7}`, `key: is a JSON number, wanted an object {...}`},
		{decoderOf(connect), `{"spawn_config":{"use_static_token":"yes"}}`, "spawn_config.use_static_token: is a JSON string, wanted true or false"},
		{decoderOf(connect), `{"token_lifetime_seconds":1.5}`, "token_lifetime_seconds: is 1.5, wanted a whole number"},
		{decoderOf(connect), `{"token_lifetime_seconds":9223372036854775808}`, "token_lifetime_seconds: is 9223372036854775808, too large a number"},
		{decoderOf(connect), `[]`, `the payload: is a JSON list, wanted an object {...}`},
		{decoderOf(connect), `{"key":{"name":"a"}`, "the payload is not JSON: it ends within a value, at byte 19"},
		{decoderOf(drones), `{"limit":"1"}`, "limit: is a JSON string, wanted a whole number"},
		{decoderOf(report), `{"session":"s","reports":[{"backend_id":"b","status":"loading"},{"backend_id":"b","status":"dead"}]}`, `reports[1].status: "dead" is not a status`},
		{decoderOf(report), `{"session":"s","reports":[{"backend_id":"b","status":70}]}`, "reports[0].status: is a JSON number, wanted a string"},
		{decoderOf(report), `{"session":"s","reports":[{"backend_id":"B","status":"loading"}]}`, "reports[0].backend_id: must have 1 to 45 characters of a-z, 0-9 and '-'"},
		{decoderOf(messages.Decode[messages.LogLine]), `{"stream":"stdout","line":"","time":"yesterday"}`, "time: is not of the form 2026-11-23T12:00:00Z (RFC 3339)"},
	} {
		err := c.decode([]byte(c.payload))
		if err == nil || err.Error() != "BadRequest: "+c.want {
			t.Errorf("%q: %v, wanted %s", c.payload, err, c.want)
		}
	}
}
