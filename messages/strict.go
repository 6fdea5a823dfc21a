package messages

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// ReadJSON reads one JSON object so that no two readers understand it differently: names of
// fields are exact, one that stands twice in an object is refused at any depth, also in
// what is only carried on, and all text is Unicode. A whole number may be written 60.0 or 6e1, up to 2^53, as some
// languages write theirs. Fields that v has not are ignored, or refused where all are known.
// The error is nil or an [*Error] of kind [BadRequest]. It names the field by its path in the JSON.
func ReadJSON(data []byte, v any, allKnown bool) error { return asError(readJSON(data, v, allKnown)) }

func readJSON(data []byte, v any, allKnown bool) *Error {
	switch {
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		return Errorf(BadRequest, "the payload begins with a byte order mark (BOM): send the JSON without it")
	case !utf8.Valid(data):
		return Errorf(BadRequest, "the payload is not UTF-8: encode the JSON in UTF-8")
	}
	known := json.RejectUnknownMembers(allKnown)
	err := json.Unmarshal(data, v, known)
	var semantic *json.SemanticError
	if errors.As(err, &semantic) && semantic.JSONKind == '0' {
		// Only what is written in this way costs a second reading.
		fresh := reflect.New(reflect.TypeOf(v).Elem())
		if json.Unmarshal(data, fresh.Interface(), known, anyNotation) == nil {
			reflect.ValueOf(v).Elem().Set(fresh.Elem())
			return nil
		}
	}
	if err != nil {
		return inWords(err)
	}
	return nil
}

// anyNotation reads whole numbers however they are written.
var anyNotation = json.WithUnmarshalers(json.JoinUnmarshalers(
	json.UnmarshalFromFunc(readWhole[int]), json.UnmarshalFromFunc(readWhole[int64]), json.UnmarshalFromFunc(readWhole[uint64]),
))

func readWhole[N int | int64 | uint64](from *jsontext.Decoder, n *N) error {
	if from.PeekKind() != '0' {
		return errors.ErrUnsupported
	}
	text, err := from.ReadValue()
	if err != nil {
		return err
	}
	if json.Unmarshal(text, n) == nil {
		return nil
	}
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 || f < 0 && N(0)-1 > 0 {
		return errors.New("is no whole number that fits")
	}
	*n = N(f)
	return nil
}

// inWords says what is wrong with some JSON in the words of who wrote it, not of Go.
func inWords(err error) *Error {
	var syntactic *jsontext.SyntacticError
	var semantic *json.SemanticError
	switch {
	case errors.As(err, &syntactic):
		return inWordsOfSyntax(syntactic)
	case errors.As(err, &semantic):
		return badField(jsonPath(semantic.JSONPointer), "%s", whatIsWrong(semantic))
	}
	return Errorf(BadRequest, "the payload is not a JSON object of this kind: %v", err)
}

func inWordsOfSyntax(err *jsontext.SyntacticError) *Error {
	said := strings.TrimPrefix(err.Err.Error(), "jsontext: ")
	switch {
	case errors.Is(err.Err, jsontext.ErrDuplicateName):
		return badField(jsonPath(err.JSONPointer), "is there twice in one object, and readers differ in which one they take: send it once")
	case errors.Is(err.Err, io.ErrUnexpectedEOF):
		return Errorf(BadRequest, "the payload is not JSON: it ends within a value, at byte %d", err.ByteOffset)
	case strings.Contains(said, "surrogate"):
		return badField(jsonPath(err.JSONPointer), "holds half of a surrogate pair (\\ud800 to \\udfff alone), which is no text: send whole characters")
	}
	return Errorf(BadRequest, "the payload is not JSON: %s, at byte %d", said, err.ByteOffset)
}

func whatIsWrong(err *json.SemanticError) string {
	var own *Error
	switch {
	case errors.As(err.Err, &own):
		return own.Message
	case errors.Is(err.Err, json.ErrUnknownName):
		return "is no field that there is: correct its name, or leave it out"
	case errors.Is(err.Err, strconv.ErrRange):
		return fmt.Sprintf("is %.40s, too large a number", err.JSONValue)
	case err.GoType == nil:
		return "is not what is wanted here"
	}
	is := map[jsontext.Kind]string{
		'n': "null", 't': "true", 'f': "false", '"': "a JSON string", '0': "a JSON number", '{': "a JSON object", '[': "a JSON list",
	}[err.JSONKind]
	if err.JSONKind == '0' && len(err.JSONValue) > 0 {
		is = fmt.Sprintf("%.40s", err.JSONValue)
	}
	wantsText := err.JSONKind != '"' && reflect.PointerTo(err.GoType).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
	var form *time.ParseError
	switch kind := err.GoType.Kind(); {
	case errors.As(err.Err, &form):
		return "is not of the form 2026-11-23T12:00:00Z (RFC 3339)"
	case err.Err != nil && !errors.Is(err.Err, strconv.ErrSyntax) && !wantsText:
		return err.Err.Error() // what one of our types says of its value
	case wantsText || kind == reflect.String:
		return "is " + is + ", wanted a string"
	case kind == reflect.Struct || kind == reflect.Map:
		return "is " + is + `, wanted an object {...}`
	case kind == reflect.Slice:
		return "is " + is + ", wanted a list [...]"
	case kind == reflect.Bool:
		return "is " + is + ", wanted true or false"
	}
	return "is " + is + ", wanted a whole number"
}

// jsonPath is a pointer as people write one: spawn_config.executable.command[0]. What is no plain name is quoted.
func jsonPath(pointer jsontext.Pointer) string {
	var path strings.Builder
	for token := range pointer.Tokens() {
		switch _, err := strconv.ParseUint(token, 10, 32); {
		case err == nil && path.Len() > 0:
			path.WriteString("[" + token + "]")
		case token != "" && len(token) <= 64 && strings.Trim(token, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == "":
			if path.Len() > 0 {
				path.WriteByte('.')
			}
			path.WriteString(token)
		default:
			fmt.Fprintf(&path, "[%.64q]", token)
		}
		if path.Len() > 256 {
			path.WriteString("…")
			break
		}
	}
	if path.Len() == 0 {
		return "the payload"
	}
	return path.String()
}
