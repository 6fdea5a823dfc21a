package cli

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jetway-project/jetway/messages"
)

// printJSON prints a value on one line.
func (r *run) printJSON(v any) { r.printf("%s\n", messages.Encode(v)) }

// printIndented prints a value for reading and for programs.
func (r *run) printIndented(v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("print JSON: %w", err)
	}
	r.printf("%s\n", data)
	return nil
}

// facts prints names and values, leaving out what is empty.
func (r *run) facts(pairs ...string) {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			r.printf("%-10s %s\n", pairs[i], pairs[i+1])
		}
	}
}

// age reads like 45s, 3m12s, 2h5m or 3d4h. A clock that is behind gives 0s.
func age(d time.Duration) string {
	d = max(d, 0).Truncate(time.Second)
	s := int(d.Seconds())
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%ds", s/60, s%60)
	case s < 24*3600:
		return fmt.Sprintf("%dh%dm", s/3600, s%3600/60)
	}
	return fmt.Sprintf("%dd%dh", s/86400, s%86400/3600)
}

// bytesText is a size in units of 1024 to three digits: 512M, 1.5G, 0.
func bytesText(n int64) string {
	const units = "KMGTPE"
	size, unit := float64(n), ""
	for i := 0; size >= 1000 && i < len(units); i++ {
		size, unit = size/1024, units[i:i+1]
	}
	digits := 0
	if unit != "" && size < 9.95 {
		digits = 1
	}
	return strings.TrimSuffix(strconv.FormatFloat(size, 'f', digits, 64), ".0") + unit
}

// keyText is a key in one word: namespace/name:tag, without what is empty.
func keyText(k messages.Key) string {
	text := k.Name
	if k.Namespace != "" {
		text = k.Namespace + "/" + text
	}
	if k.Tag != "" {
		text += ":" + k.Tag
	}
	return text
}

// stateText says what belongs to a status: an address, or how it ended.
func stateText(s messages.State) string {
	if s.Status < messages.Terminating {
		var parts []string
		if s.Address != "" {
			parts = append(parts, "at "+s.Address)
		}
		if s.Message != "" {
			parts = append(parts, s.Message)
		}
		return oneLine(strings.Join(parts, ": "))
	}
	var parts []string
	if s.Reason != "" {
		parts = append(parts, string(s.Reason))
	} else if s.Status == messages.Terminated {
		parts = append(parts, "by itself")
	}
	if s.Kind != "" {
		parts = append(parts, string(s.Kind))
	}
	if s.Cause != "" && s.Cause != messages.CauseAsked {
		parts = append(parts, string(s.Cause))
	}
	if s.By != "" {
		parts = append(parts, "by "+s.By)
	}
	if s.ExitCode != nil {
		parts = append(parts, fmt.Sprintf("exit code %d", *s.ExitCode))
	}
	text := strings.Join(parts, ", ")
	if s.Message != "" {
		text = strings.TrimPrefix(text+": "+s.Message, ": ")
	}
	return oneLine(text)
}

// eventLine is one state of a backend as a line; wide names the backend.
func eventLine(e messages.StateEvent, wide bool) string {
	line := e.Time.Local().Format("15:04:05.000") + "  "
	if wide {
		line += fmt.Sprintf("%-14s  ", e.BackendID)
	}
	text := stateText(e.State)
	switch {
	case e.Resumes != "":
		text = strings.TrimSpace(text + " resumes " + e.Resumes)
	case e.DormantUntil != nil:
		text += "; its key is dormant until " + e.DormantUntil.Local().Format(time.DateTime)
	}
	line += fmt.Sprintf("%-16s  %s", e.Status, text)
	return strings.TrimRight(line, " ")
}

// printEvent prints one event as it came.
func (r *run) printEvent(e messages.StateEvent, asJSON, wide bool) {
	if asJSON {
		r.printJSON(e)
		return
	}
	r.printf("%s\n", eventLine(e, wide))
}
