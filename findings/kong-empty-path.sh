#!/bin/sh
# kong v1.17.0 makes the current directory of an empty environment variable where the flag is a path without a default;
# with a default the same variable makes it "", and neither is what the flag is when the variable is not set.
#
# A compose file or a unit passes a variable on as empty that is not set. A service runs in "/" more often than not, so a
# flag that restricts something to a directory then allows everything. A string becomes "" in place of its default, and
# an int ends the program.
#
# What Jetway does: internal/cli has every flag read an empty value as one that is not given.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat >main.go <<'GO'
package main

import (
	"fmt"
	"os"

	"github.com/alecthomas/kong"
)

func main() {
	var cli struct {
		Root  string `type:"path" env:"ROOT"`
		Home  string `type:"path" env:"HOME_OF_IT" default:"/srv"`
		Name  string `env:"NAME" default:"one"`
		Count int    `env:"COUNT" default:"3"`
	}
	parser := kong.Must(&cli, kong.Exit(os.Exit))
	_, err := parser.Parse(nil)
	cwd, _ := os.Getwd()
	if cli.Root == cwd {
		cli.Root = "(current directory)"
	}
	fmt.Printf("root %q, home %q, name %q, count %d, error %v\n", cli.Root, cli.Home, cli.Name, cli.Count, err)
}
GO
cat >go.mod <<'MOD'
module example.com/finding

go 1.24

require github.com/alecthomas/kong v1.17.0
MOD
go mod tidy >/dev/null 2>&1
go build -o finding .

expect() { # what was set, what is expected, what was seen
	echo "$1: $3"
	test "$2" = "$3" || {
		echo "changed: expected: $2" >&2
		exit 1
	}
}
echo "kong $(go list -m -f '{{.Version}}' github.com/alecthomas/kong)"
expect "nothing is set" 'root "", home "/srv", name "one", count 3, error <nil>' "$(./finding)"
expect "ROOT is empty" 'root "(current directory)", home "/srv", name "one", count 3, error <nil>' "$(ROOT='' ./finding)"
expect "HOME_OF_IT is empty" 'root "", home "", name "one", count 3, error <nil>' "$(HOME_OF_IT='' ./finding)"
expect "NAME is empty" 'root "", home "/srv", name "", count 3, error <nil>' "$(NAME='' ./finding)"
expect "COUNT is empty" 'root "", home "/srv", name "one", count 0, error --count: expected a valid 64 bit int but got "" (from envar COUNT="")' "$(COUNT='' ./finding)"
