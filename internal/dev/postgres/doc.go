// Package postgres runs a private Postgres cluster, for jetway dev and for tests.
//
// It is never the system's: it has a data directory, a socket directory and a
// superuser of its own, and listens on no TCP port unless a test asks for one.
// Started as root it runs as an unprivileged user, as Postgres demands. The
// server is a child of this process and ends with it, also when this process is
// killed (on Linux). Who calls [Start] calls [Cluster.Stop].
package postgres
