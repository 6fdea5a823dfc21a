package messages

import (
	"bytes"
	"encoding/json"
	"net"
	"strconv"
	"sync"
)

// validated is a payload that can say what is wrong with it.
type validated[T any] interface {
	*T
	validate() *Error
}

// Decode reads a payload and validates it. An empty payload is an empty object.
// The error is always an [*Error] of kind [BadRequest] that names the field.
func Decode[T any, P validated[T]](data []byte) (T, error) {
	var v T
	if err := decode(data, &v); err != nil {
		return v, err
	}
	if err := P(&v).validate(); err != nil {
		return v, err
	}
	return v, nil
}

// CheckPayload refuses what is too long to be read at all.
func CheckPayload(data []byte) error {
	if len(data) > MaxPayload {
		return Errorf(BadRequest, "the payload is %d bytes long, at most %d are allowed", len(data), MaxPayload)
	}
	return nil
}

func decode(data []byte, v any) error {
	if err := CheckPayload(data); err != nil {
		return err
	}
	if len(bytes.TrimSpace(data)) == 0 {
		data = []byte("{}")
	}
	return asError(readJSON(data, v, false))
}

// Encode gives the JSON of a payload. It panics on what cannot be JSON, which
// no payload of this package is. Nothing is escaped for HTML: a payload within
// its limits must not grow past what NATS carries.
func Encode(v any) []byte {
	e := encoders.Get().(*encoder)
	defer encoders.Put(e)
	e.buffer.Reset()
	if err := e.json.Encode(v); err != nil {
		panic("messages: " + err.Error())
	}
	return bytes.Clone(bytes.TrimSuffix(e.buffer.Bytes(), []byte("\n")))
}

// encoder is a JSON encoder with its buffer, to be used again.
type encoder struct {
	buffer bytes.Buffer
	json   *json.Encoder
}

var encoders = sync.Pool{New: func() any {
	e := new(encoder)
	e.json = json.NewEncoder(&e.buffer)
	e.json.SetEscapeHTML(false)
	return e
}}

// checkAddress: host:port with a number for the port.
func checkAddress(field, s string) *Error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" || len(s) > MaxName {
		return badField(field, "must be host:port")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return badField(field, "must be host:port")
	}
	return checkText(field, s, MaxName)
}

func checkIDs(field string, ids []string, limit int) *Error {
	if len(ids) > limit {
		return badField(field, "has %d entries, at most %d are allowed", len(ids), limit)
	}
	for _, id := range ids {
		if err := checkID(field, id); err != nil {
			return err
		}
	}
	return nil
}
