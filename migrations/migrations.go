// Package migrations holds the numbered SQL files that make the database. One
// file a change, never edited once landed: the store applies them in order.
package migrations

import "embed"

// FS holds the files, named NNN_what.sql.
//
//go:embed *.sql
var FS embed.FS
