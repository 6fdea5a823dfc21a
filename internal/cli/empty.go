package cli

import (
	"cmp"
	"os"
	"reflect"
	"strings"

	"github.com/alecthomas/kong"
)

// emptyIsUnset takes an empty flag or variable as not given, because a script or a compose file passes a variable that is not set as an empty
// one. Kong would read an empty path as the current directory, and refuse an empty number.
func emptyIsUnset(k *kong.Kong) error {
	return kong.Visit(k.Model.Node, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok {
			flag.Mapper = unset{flag.Mapper}
		}
		return next(nil)
	})
}

// unset reads a flag. It takes an empty value as if the flag were not given.
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

// emptyIsValue says whether an empty value on the command line is a value of the flag: it is for a pointer, which can tell it from none, and
// for the words of a command.
func emptyIsValue(v *kong.Value) bool {
	return v.Target.Kind() == reflect.Pointer || v.IsSlice() && v.Tag.Sep == -1
}

// missing is the error for what is required and was given empty. It names flags as kong names those that were not given. An optional argument
// may be left out, but not be empty.
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
