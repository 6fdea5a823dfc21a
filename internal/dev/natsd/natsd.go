// Package natsd runs a nats-server with JetStream inside this process, for jetway
// dev and for tests. Who calls [Start] calls [Server.Stop]; what the streams hold
// survives in the store directory.
package natsd

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Config says where to listen. StoreDir is required.
type Config struct {
	// Host is an address to listen on; 127.0.0.1.
	Host string
	// Port to listen on; 0: any free one.
	Port int
	// StoreDir holds the streams.
	StoreDir string
	Log      *slog.Logger
}

// PortTakenError says that somebody else listens there.
type PortTakenError struct {
	Addr string
	Err  error
}

// Error says which address and why.
func (e *PortTakenError) Error() string { return fmt.Sprintf("listen on %s: %v", e.Addr, e.Err) }

// Unwrap gives the system's error.
func (e *PortTakenError) Unwrap() error { return e.Err }

// Server is a running server.
type Server struct{ s *server.Server }

const startTimeout = time.Minute

// Start runs a server until Stop.
func Start(cfg Config) (*Server, error) {
	if cfg.Host == "" {
		cfg.Host = "127.0.0.1"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	opts := &server.Options{
		ServerName: "jetway-dev",
		Host:       cfg.Host,
		Port:       cfg.Port,
		JetStream:  true,
		StoreDir:   cfg.StoreDir,
		// As in deploy/nats: who is frozen is not asked for long.
		PingInterval: 10 * time.Second,
		MaxPingsOut:  2,
		NoSigs:       true,
		NoLog:        false,
	}
	// The server itself would only log it.
	if err := checkFree(cfg.Host, cfg.Port); err != nil {
		return nil, err
	}
	if cfg.Port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("start the NATS server: %w", err)
	}
	log := &logger{log: cfg.Log, fatal: make(chan string, 1)}
	s.SetLoggerV2(log, false, false, false)
	s.Start() // returns once it listens, or has failed
	select {
	case why := <-log.fatal:
		err = errors.New(why)
	default:
		if !s.ReadyForConnections(startTimeout) {
			err = errors.New("it does not take connections")
		}
	}
	if err != nil {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, fmt.Errorf("start the NATS server with its data in %s: %w", cfg.StoreDir, err)
	}
	return &Server{s}, nil
}

func checkFree(host string, port int) error {
	addr := net.JoinHostPort(host, strconv.Itoa(port))
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return &PortTakenError{addr, err}
	}
	if err != nil {
		return fmt.Errorf("start the NATS server: %w", err)
	}
	return l.Close()
}

// URL is where clients connect.
func (s *Server) URL() string { return s.s.ClientURL() }

// Stop ends the server and waits for it. Twice does no harm.
func (s *Server) Stop() {
	s.s.Shutdown()
	s.s.WaitForShutdown()
}

// logger puts the server's lines into slog. Notices are for debugging here.
type logger struct {
	log   *slog.Logger
	fatal chan string
}

func (l *logger) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l *logger) Warnf(format string, v ...any)   { l.log.Warn(fmt.Sprintf(format, v...)) }
func (l *logger) Errorf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }
func (l *logger) Debugf(format string, v ...any)  { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l *logger) Tracef(string, ...any)           {}

// Fatalf must not end the process; Start says it.
func (l *logger) Fatalf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	l.log.Error(text)
	select {
	case l.fatal <- text:
	default:
	}
}
