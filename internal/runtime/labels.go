package runtime

// Labels in the environment of everything that a runtime starts. Who has lost track
// of a backend (a new agent, the guard) finds its processes by them.
const (
	// EnvBackendID has the backend's id. The drone puts it into Spec.Env.
	EnvBackendID = "SESSION_BACKEND_ID"
	// EnvDrone has the name of the drone.
	EnvDrone = "JETWAY_DRONE"
	// EnvCluster has the cluster of the drone: another stack on the machine may have a drone of the same name.
	EnvCluster = "JETWAY_DRONE_CLUSTER"
	// EnvState has the number of the directory that the runtime keeps its state in: another
	// drone of the machine may have the same name, but not the same directory.
	EnvState = "JETWAY_STATE"
	// EnvStateDir has the path of that directory: where it leads to another one, or nowhere, no agent can come back
	// that knows what was started with it.
	EnvStateDir = "JETWAY_STATE_DIR"
)
