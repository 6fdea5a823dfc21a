package cli

import (
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/lmittmann/tint"
	"golang.org/x/term"
)

// logFlags say what is logged, to standard error.
type logFlags struct {
	LogLevel  string `help:"Least level that is logged: ${enum}. auto is info for roles (worker, drone, …), and warn for other commands." enum:"auto,debug,info,warn,error" default:"auto"`
	LogFormat string `help:"Format of the log: ${enum}. auto is text on a terminal, and json elsewhere." enum:"auto,text,json" default:"auto"`
}

// logger gives the log of a command.
func (f *logFlags) logger(w io.Writer, command string) (*slog.Logger, error) {
	level := slog.LevelWarn
	switch {
	case f.LogLevel != "auto":
		if err := level.UnmarshalText([]byte(f.LogLevel)); err != nil {
			return nil, usagef("--log-level: %v", err)
		}
	case slices.Contains([]string{"worker", "drone", "guard", "proxy", "dns", "gateway", "gateway serve"}, command):
		level = slog.LevelInfo
	}
	onTerminal := isTerminal(w)
	if f.LogFormat == "text" || (f.LogFormat == "auto" && onTerminal) {
		return slog.New(tint.NewTextHandler(w, &tint.Options{Level: level, TimeFormat: time.TimeOnly + ".000", NoColor: !onTerminal})), nil
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: readable})), nil
}

// readable has JSON say durations as people do, and errors that are none not at all.
func readable(_ []string, a slog.Attr) slog.Attr {
	switch v := a.Value.Any().(type) {
	case time.Duration:
		a.Value = slog.StringValue(v.String())
	case error:
		a.Value = slog.StringValue(withoutEcho(v.Error()))
	case nil:
		return slog.Attr{}
	}
	return a
}

// withoutEcho leaves out of an error's text what it says twice in a row, as where Postgres has one name for two addresses.
func withoutEcho(text string) string {
	const mark = ": "
	parts := strings.Split(text, mark)
	return strings.Join(slices.Compact(parts), mark)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
