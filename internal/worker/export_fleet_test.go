package worker

// FleetOf puts together what the metrics show of the fleet.
var FleetOf = fleetOf
