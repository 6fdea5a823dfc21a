//go:build mutants

package store

import (
	"strings"

	"github.com/jetway-project/jetway/internal/mutant"
)

// The statements with a deliberate bug.
func init() {
	bug := func(name mutant.Name, statement *string, right, wrong string) {
		if !mutant.On(name) {
			return
		}
		if !strings.Contains(*statement, right) {
			panic("mutant " + string(name) + ": the statement no longer says " + right)
		}
		*statement = strings.ReplaceAll(*statement, right, wrong)
	}
	bug(mutant.RenewExpired, &heartbeatSQL, "and s.sealed_at is null and (s.expires_at > now() or now() > $9 or not exists (select from settled))", "and (now() > $9 or true)")
	bug(mutant.OldSession, &heartbeatSQL, "and s.home = (select h.id from here h)", "")
	bug(mutant.TokensOfSequence, &spawnSQL, "greatest(nextval('fencing_token'), (extract(epoch from now()) * 1000)::int8)", "nextval('fencing_token')")
	bug(mutant.TokensOfSequence, &spawnSQL, "greatest(excluded.fencing_token, l.fencing_token + 1)", "excluded.fencing_token")
	bug(mutant.SilenceIsAbsence, &sweepSQL, "p.heard_at > now() - make_interval(secs => $7) and", "p.heard_at > now() - make_interval(secs => 0 * $7) and")
	bug(mutant.TakeoverUnfenced, &spawnSQL, "greatest(excluded.fencing_token, l.fencing_token + 1)", "l.fencing_token")
	bug(mutant.ResumeTwice, &spawnSQL, "where l.released_at is not null\n      and (l.retry_at is null", "where (l.released_at is not null or excluded.resumes is not null)\n      and (l.retry_at is null")
	bug(mutant.ResumeTwice, &spawnSQL, "and (excluded.resumes is null or l.backend_id = excluded.resumes and l.dormant_until > now())", "")
	bug(mutant.TakeoverUnsealed, &sealExpiredSQL, "s.sealed_at is null", "false")
	bug(mutant.LeaseMovedBack, &heartbeatSQL, "greatest(s.expires_at, now() + make_interval(secs => $8))", "now() + make_interval(secs => $8)")
	bug(mutant.JoinLeaving, &joinSQL, "b.status >= 60 or b.asked > 0 as leaving", "b.status >= 60 as leaving")
	bug(mutant.RouteExpired, &routeSQL, "t.expires_at > now() and ", "")
	bug(mutant.RouteExpired, &routeSQL, "ceil(extract(epoch from t.expires_at - now()) * 1000)::int8", "60000::int8")
}
