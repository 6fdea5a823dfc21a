// Package postgres runs a private Postgres cluster, for jetway dev and for tests.
//
// What holds:
//
//   - It is never the system's: it has a data directory, a socket directory and a
//     superuser of its own, and listens on no TCP port unless a test asks for one.
//   - Started as root it runs as an unprivileged user, as Postgres demands: the
//     owner of the data, else postgres, else nobody.
//   - A data directory is one process's at a time, by a lock beside it, which the
//     kernel gives back when that process ends. So a server found running in it is
//     nobody's and may be stopped; no process is signalled that is not a server of
//     this very directory.
//   - The server is a child of this process and ends with it, also when this
//     process is killed (on Linux; elsewhere the next start ends it).
//
// Who calls [Start] calls [Cluster.Stop].
package postgres
