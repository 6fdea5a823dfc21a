// Package migrations holds the numbered SQL files that make the database. One
// file a change, never edited once landed: the store applies them in order, while older workers
// run. A file is one transaction that waits for a table for a second at a time, and begins anew when
// that is not enough. So it locks little and rewrites nothing large, and takes nothing away that the workers of the version
// before use. An index on a table that grows is made by a
// file of its own that runs outside of a transaction, and so may be cut off anywhere and begun again:
//
//	---- tern: disable-tx ----
//	drop index concurrently if exists backend_example;
//	create index concurrently backend_example on backend (drone);
package migrations

import "embed"

// FS holds the files, named NNN_what.sql.
//
//go:embed *.sql
var FS embed.FS
