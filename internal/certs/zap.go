package certs

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"go.uber.org/zap/zapcore"
)

// zapCore leads what certmagic logs, in its library's way, to slog. What it does in
// the ordinary course is for debugging: what operators need is said by authority.heard.
type zapCore struct {
	log    *slog.Logger
	fields []zapcore.Field
}

var _ zapcore.Core = (*zapCore)(nil)

// Enabled is part of zapcore.Core.
func (c *zapCore) Enabled(level zapcore.Level) bool {
	return c.log.Enabled(context.Background(), slogLevel(level, "", ""))
}

// With is part of zapcore.Core.
func (c *zapCore) With(fields []zapcore.Field) zapcore.Core {
	return &zapCore{log: c.log, fields: append(slices.Clip(c.fields), fields...)}
}

// Check is part of zapcore.Core.
func (c *zapCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

// Write is part of zapcore.Core.
func (c *zapCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	encoded := zapcore.NewMapObjectEncoder()
	for _, field := range append(slices.Clip(c.fields), fields...) {
		field.AddTo(encoded)
	}
	attrs := []slog.Attr{slog.String("logger", "certmagic."+entry.LoggerName)}
	for _, key := range slices.Sorted(maps.Keys(encoded.Fields)) {
		name := key
		if key == "error" {
			name = "err"
		}
		attrs = append(attrs, slog.Any(name, encoded.Fields[key]))
	}
	c.log.LogAttrs(context.Background(), slogLevel(entry.Level, entry.LoggerName, entry.Message), entry.Message, attrs...)
	return nil
}

// Sync is part of zapcore.Core.
func (c *zapCore) Sync() error { return nil }

func slogLevel(level zapcore.Level, logger, message string) slog.Level {
	// Failed orders, which are told of by an event.
	told := message == "job failed" || slices.Contains(strings.Split(logger, "."), "obtain") || slices.Contains(strings.Split(logger, "."), "renew")
	if level < zapcore.WarnLevel || told {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}
