package cli

import (
	"cmp"
	"os"
	"reflect"
	"strings"

	"github.com/alecthomas/kong"
)

// emptyIsUnset has an empty value of any flag, or of its variable, mean that it is not given: that is
// what a script or a compose file makes of a variable that is not set. To kong an empty path is the
// current directory, and an empty number an error.
func emptyIsUnset(k *kong.Kong) error {
	return kong.Visit(k.Model.Node, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok {
			flag.Mapper = unset{flag.Mapper}
		}
		return next(nil)
	})
}

// unset reads a flag, and what is empty as if it were not given.
type unset struct{ kong.Mapper }

func (u unset) Decode(ctx *kong.DecodeContext, target reflect.Value) error {
	v, token := ctx.Value, ctx.Scan.Peek()
	// What stands on the command line goes to a place of its own first.
	typed := target.Addr().Pointer() != v.Target.Addr().Pointer()
	switch {
	case token.Value != "", v.IsBool() && token.Type != kong.FlagValueToken:
		return u.Mapper.Decode(ctx, target)
	case typed && emptyIsValue(v):
		return u.Mapper.Decode(ctx, target)
	}
	ctx.Scan.Pop()
	instead := ""
	if typed {
		instead = os.Getenv(strings.Join(v.Tag.Envs, ""))
	}
	instead = cmp.Or(instead, v.Default)
	switch {
	case v.IsCumulative() && target.Len() > 0: // it adds nothing
		return nil
	case instead == "":
		target.SetZero()
		return nil
	}
	scan := kong.ScanFromTokens(kong.Token{Type: kong.FlagValueToken, Value: instead})
	return u.Mapper.Decode(&kong.DecodeContext{Value: v, Scan: scan}, target)
}

// emptyIsValue says of a flag that an empty value, given on the command line, is one: of words of a
// command, and of what says so by being a pointer.
func emptyIsValue(v *kong.Value) bool {
	return v.Target.Kind() == reflect.Pointer || v.IsSlice() && v.Tag.Sep == -1
}

// missing says what is needed and was given without a value: of flags as kong says it of those that
// were not given, and an argument that may be left out is no empty one.
func missing(parsed *kong.Context) error {
	var names []string
	for _, part := range parsed.Path {
		if p := part.Positional; p != nil && p.Target.Kind() == reflect.String && p.Target.String() == "" {
			return usagef("%s: must not be empty", strings.ToUpper(p.Name))
		}
	}
	for _, flag := range parsed.Flags() {
		if flag.Required && flag.Target.IsZero() {
			names = append(names, flag.Summary())
		}
	}
	if len(names) == 0 {
		return nil
	}
	return usagef("missing flags: %s", strings.Join(names, ", "))
}
