// Package metrics is what a worker, a proxy or a drone shows of itself over HTTP: counters for
// Prometheus, and whether it is alive and ready.
//
// It owns the names of the metrics (all jetway_worker_…, jetway_proxy_… or jetway_drone_…, documented in
// deploy/README.md, which a test compares) and the HTTP server behind
// --metrics-addr. It knows neither the bus, the database nor the roles: a worker
// hands it a [Source] to read, a proxy a [ProxySource], a drone a [DroneSource].
//
// What holds:
//
//   - Counting a request costs some atomic additions: its labels are resolved
//     beforehand, and nothing is allocated.
//   - Reading never waits for anything but Ready, which is bounded in time and in
//     how often it asks: many scrapes cost Postgres and NATS no more than one (I8).
//   - Nothing is global: who makes a registry passes it in.
//
// Who closes what: who calls [Start] calls [Server.Close], after the role has
// ended, so that it can still be seen stopping.
package metrics
