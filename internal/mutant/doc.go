// Package mutant names deliberate bugs, for the tests of package torture: a harness
// that does not find them would not find others. Without the build tag `mutants` none
// of them is in the program; with it, the environment variable JETWAY_MUTANT names the
// one that is.
package mutant

// Name is a deliberate bug.
type Name string

// The bugs.
const (
	// LateDeadline gives drones the deadlines of a lease that lives longer than it does (I1).
	LateDeadline Name = "late-deadline"
	// RenewExpired renews leases that have expired (I1).
	RenewExpired Name = "renew-expired"
	// PublishUncommitted publishes states before they are committed (I5).
	PublishUncommitted Name = "publish-uncommitted"
	// TakeoverUnfenced takes expired leases over with the fencing token that they had (I2).
	TakeoverUnfenced Name = "takeover-unfenced"
	// RouteExpired takes connection tokens that have expired.
	RouteExpired Name = "route-expired"
	// ForeignReport takes reports from drones that do not have the backend (I1).
	ForeignReport Name = "foreign-report"
	// AckUnjournalled has drones acknowledge and report actions before they are journalled,
	// which nobody waits for any more (I3).
	AckUnjournalled Name = "ack-unjournalled"
	// FreeForeign lets any machine that registers under a drone's name say that what the one
	// before it had does not run any more (I1).
	FreeForeign Name = "free-foreign"
	// TakeoverUnsealed takes keys from a session that has expired without sealing it (I1).
	TakeoverUnsealed Name = "takeover-unsealed"
	// LeaseMovedBack has a renewal set the end of a lease, also to an earlier one (I1).
	LeaseMovedBack Name = "lease-moved-back"
	// JoinLeaving lets visitors join backends that were asked to end and have not begun to.
	JoinLeaving Name = "join-leaving"
	// ClockBelieved takes the database's word for what has expired however its clock jumps (I1).
	ClockBelieved Name = "clock-believed"
	// CopyBelieved takes the word of a database that was restored or failed over for what nobody holds, as soon as
	// somebody has seen that it was (I1).
	CopyBelieved Name = "copy-believed"
	// OldSession renews sessions that began before the database was restored or failed over (I1).
	OldSession Name = "old-session"
	// TokensOfSequence has fencing tokens come from their sequence alone (I2).
	TokensOfSequence Name = "tokens-of-sequence"
	// SilenceIsAbsence takes a proxy that is not heard for one with nobody connected.
	SilenceIsAbsence Name = "silence-is-absence"
	// SealedRenewed has a drone renew what is sealed with the rest of its session (I1).
	SealedRenewed Name = "sealed-renewed"
	// SpareTwice has a spare claimed for one backend be there for the next (I1).
	SpareTwice Name = "spare-twice"
	// ClaimLate lets a spare run on that did not answer its claim in time: it may answer yet (I1).
	ClaimLate Name = "claim-late"
	// OldNap has a drone put a backend to sleep, or wake it, for an action that it has had already, or that comes after a later one (I3).
	OldNap Name = "old-nap"
	// ResumeTwice has a dormant key be resumed by everybody who has read what was kept of it (I1).
	ResumeTwice Name = "resume-twice"
)

// All are all of them.
var All = []Name{
	LateDeadline, RenewExpired, PublishUncommitted, TakeoverUnfenced, RouteExpired, ForeignReport, AckUnjournalled,
	FreeForeign, TakeoverUnsealed, LeaseMovedBack, JoinLeaving, ClockBelieved, CopyBelieved,
	OldSession, TokensOfSequence, SilenceIsAbsence, SealedRenewed, SpareTwice, ClaimLate, OldNap, ResumeTwice,
}

// Env names the bug.
const Env = "JETWAY_MUTANT"
