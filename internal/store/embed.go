package store

import (
	"embed"
	"fmt"
)

// The statements, each whole: a reader pastes one into psql.
//
//go:embed sql/*.sql
var statements embed.FS

// statement gives the text of sql/<name>.sql.
func statement(name string) string {
	text, err := statements.ReadFile("sql/" + name + ".sql")
	if err != nil {
		panic(fmt.Sprintf("store: %v", err)) // the build lacks a file
	}
	return string(text)
}
