package store

// DrainedSQL is explained by a test of plans.
var DrainedSQL = drainedSQL
