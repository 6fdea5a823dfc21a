package messages

import "strings"

// Subjects that do not depend on a name.
const (
	SubjectConnect   = "jetway.ctl.connect"
	SubjectTerminate = "jetway.ctl.terminate"
	SubjectRevoke    = "jetway.ctl.revoke"
	SubjectDrain     = "jetway.ctl.drain"
	SubjectUndrain   = "jetway.ctl.undrain"
	SubjectForget    = "jetway.ctl.forget"
	SubjectStatus    = "jetway.ctl.status"
	SubjectBackends  = "jetway.ctl.backends"
	SubjectDrones    = "jetway.ctl.drones"

	SubjectTemplatePut    = "jetway.ctl.template.put"
	SubjectTemplateGet    = "jetway.ctl.template.get"
	SubjectTemplateList   = "jetway.ctl.template.list"
	SubjectTemplateDelete = "jetway.ctl.template.delete"

	SubjectAnyRegister  = "jetway.drone.*.register"
	SubjectAnyHeartbeat = "jetway.drone.*.heartbeat"
	SubjectAnyReport    = "jetway.drone.*.report"
	SubjectAnyTemplates = "jetway.drone.*.templates"
	SubjectAnyRoute     = "jetway.proxy.*.route"
	SubjectAnyKeepalive = "jetway.proxy.*.keepalive"

	SubjectAllActions = "jetway.action.*"
	SubjectAllEvents  = "jetway.event.>"
	SubjectAllLogs    = "jetway.log.*"
	SubjectAllStats   = "jetway.stats.*"

	SubjectAnyBackendEvent = "jetway.event.backend.*"
	SubjectAnyTokenEvent   = "jetway.event.token.*"

	SubjectDNSPresent = "jetway.dns.present"
	SubjectDNSRemove  = "jetway.dns.remove"
	SubjectDNSStarted = "jetway.dns.started"
)

// Streams; the workers make them.
const (
	StreamActions = "JETWAY_ACTIONS"
	StreamEvents  = "JETWAY_EVENTS"
	StreamLogs    = "JETWAY_LOGS"
	StreamCerts   = "KV_" + BucketCerts
)

// BucketCerts is the key-value bucket in which proxies share certificates, their
// private keys, and the locks under which one of them renews.
const BucketCerts = "JETWAY_CERTS"

// SubjectAllCerts is what the bucket of certificates holds.
const SubjectAllCerts = "$KV." + BucketCerts + ".>"

// CertsSubject is where what is written to one key of the bucket is heard.
func CertsSubject(key string) string { return "$KV." + BucketCerts + "." + key }

// RegisterSubject is where a drone registers.
func RegisterSubject(drone string) string { return "jetway.drone." + drone + ".register" }

// HeartbeatSubject is where a drone heartbeats and renews its leases.
func HeartbeatSubject(drone string) string { return "jetway.drone." + drone + ".heartbeat" }

// ReportSubject is where a drone reports states of its backends.
func ReportSubject(drone string) string { return "jetway.drone." + drone + ".report" }

// SubjectDroneTemplates is where a drone asks for the templates that it keeps spares of.
func SubjectDroneTemplates(drone string) string { return "jetway.drone." + drone + ".templates" }

// RouteSubject is where a proxy asks for a token's route.
func RouteSubject(proxy string) string { return "jetway.proxy." + proxy + ".route" }

// KeepaliveSubject is where a proxy says which backends are connected.
func KeepaliveSubject(proxy string) string { return "jetway.proxy." + proxy + ".keepalive" }

// ActionSubject carries the actions of one drone.
func ActionSubject(drone string) string { return "jetway.action." + drone }

// BackendEventSubject carries the states of one backend.
func BackendEventSubject(backend string) string { return "jetway.event.backend." + backend }

// DroneEventSubject carries what happens to one drone.
func DroneEventSubject(drone string) string { return "jetway.event.drone." + drone }

// TokenEventSubject carries what happens to the connection tokens of one backend.
func TokenEventSubject(backend string) string { return "jetway.event.token." + backend }

// LogSubject carries one backend's output lines.
func LogSubject(backend string) string { return "jetway.log." + backend }

// StatsSubject carries what one backend uses of its machine.
func StatsSubject(backend string) string { return "jetway.stats." + backend }

// InboxPrefix is where the replies to one user's requests arrive; permissions keep
// others from listening there. user is a role's name or the like: one token of a subject.
func InboxPrefix(user string) string { return "_INBOX." + user }

// DeliverSubject is where a drone's consumer delivers its actions: among the
// drone's replies, where nobody else may listen.
func DeliverSubject(drone string) string { return InboxPrefix(drone) + ".actions" }

// The names of the NATS micro services by which roles are found.
const (
	ServiceWorkers = "jetway"
	ServiceProxies = "jetway-proxy"
)

// MayReplyTo refuses reply subjects that mean something themselves: those of this
// protocol and of the NATS server. A reply there would be a request in the name of
// the one who replies, made by one who must not make it.
func MayReplyTo(reply string) bool {
	return !strings.HasPrefix(reply, "jetway.") && !strings.HasPrefix(reply, "$")
}

// SenderOf gives the drone or proxy that a request's subject speaks for, e.g.
// "dr-a" for jetway.drone.dr-a.report, or an error when that is no such name.
func SenderOf(subject string) (string, error) {
	parts := strings.Split(subject, ".")
	if len(parts) != 4 {
		return "", Errorf(BadRequest, "the subject %.100q names no sender", subject)
	}
	switch parts[1] {
	case "drone":
		return parts[2], CheckDroneName(parts[2])
	case "proxy":
		return parts[2], CheckProxyName(parts[2])
	}
	return "", Errorf(BadRequest, "the subject %.100q names no sender", subject)
}
