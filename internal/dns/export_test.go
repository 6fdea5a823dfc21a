package dns

import "time"

// LimitTCP sets how long clients may take for a query over TCP. It is called before Run.
func (s *Server) LimitTCP(limit time.Duration) { s.patience = limit }
