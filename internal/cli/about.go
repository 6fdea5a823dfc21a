package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jetway-project/jetway/messages"
)

// ageOf is how old a backend is: since it was scheduled, or, where it has ended, since its end.
func ageOf(b *messages.BackendInfo, now time.Time) string {
	if b.EndedAt != nil {
		return age(now.Sub(*b.EndedAt))
	}
	return age(now.Sub(b.CreatedAt))
}

// limitsText are a backend's limits in words; "" where it has none.
func limitsText(b *messages.BackendInfo, now time.Time) string {
	var parts []string
	if b.MaxIdleSeconds != nil {
		parts = append(parts, "ends after "+age(time.Duration(*b.MaxIdleSeconds)*time.Second)+" with nobody connected")
	}
	if b.SleepAfterSeconds != nil {
		of := " with nobody connected"
		if b.SleepIgnoresIdleConnections {
			of = " of silence"
		}
		parts = append(parts, "sleeps after "+age(time.Duration(*b.SleepAfterSeconds)*time.Second)+of)
	}
	if b.ResumeSeconds != nil {
		parts = append(parts, "its URL starts it again for "+age(time.Duration(*b.ResumeSeconds)*time.Second)+" after its end")
	}
	switch {
	case b.LifetimeEndsAt == nil:
	case b.EndedAt != nil:
		parts = append(parts, "was to end at "+b.LifetimeEndsAt.Local().Format(time.DateTime))
	default:
		parts = append(parts, "ends in "+age(b.LifetimeEndsAt.Sub(now)))
	}
	return strings.Join(parts, ", ")
}

// dormantText says how long the key of a backend that has ended is dormant yet.
func dormantText(until *time.Time, now time.Time) string {
	if until == nil {
		return ""
	}
	return "its key is, for " + age(until.Sub(now)) + ": its URL, or a connect, starts it again"
}

// aboutText are the facts of how a backend is used and why it ends.
func aboutText(b *messages.BackendInfo, now time.Time) []string {
	used := ""
	if b.LastUsedAt != nil {
		used = age(now.Sub(*b.LastUsedAt)) + " ago"
	}
	users := make([]string, 0, len(b.Users)+1)
	for _, name := range b.Users {
		users = append(users, strconv.Quote(name))
	}
	if b.MoreUsers {
		users = append(users, "…")
	}
	why := b.Words
	if why == "" {
		why = string(b.Cause)
	}
	crashes := ""
	if c := b.Crashes; c != nil {
		crashes = fmt.Sprintf("%d in a row of this key; the last: %s", c.InARow, c.LastWords)
		if c.RetryAfterMS > 0 {
			crashes = fmt.Sprintf("%d in a row of this key, which rests for %s; the last: %s", c.InARow, age(time.Duration(c.RetryAfterMS)*time.Millisecond), c.LastWords)
		}
	}
	return []string{
		"resumes", b.Resumes, "dormant", dormantText(b.DormantUntil, now),
		"why", oneLine(why), "runs", oneLine(b.Runs), "limits", limitsText(b, now), "last used", used, "users", strings.Join(users, ", "),
		"failures", oneLine(crashes),
	}
}
