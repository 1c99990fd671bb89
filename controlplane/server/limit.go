package server

import (
	"log/slog"
	"net"
	"sync"
	"time"
)

// Limit returns a listener that closes a connection at once if it would be one
// more than most at a time. Clients learn of that sooner than if they had to wait
// for others to go, and can try elsewhere.
func Limit(listener net.Listener, most int, log *slog.Logger) net.Listener {
	return &limited{Listener: listener, free: make(chan struct{}, most), log: &seldom{log: log}}
}

type limited struct {
	net.Listener
	free chan struct{} // one value in it for each connection
	log  *seldom
}

// Accept returns the next connection that there is room for.
func (l *limited) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.free <- struct{}{}:
			return &limitedConn{Conn: conn, release: sync.OnceFunc(func() { <-l.free })}, nil
		default:
		}
		_ = conn.Close()
		l.log.warn("too many connections: closing new ones at once", "most", cap(l.free), "client", conn.RemoteAddr().String())
	}
}

// limitedConn makes room when it is closed.
type limitedConn struct {
	net.Conn
	release func()
}

// Close closes the connection.
func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// CloseWrite ends what is sent, so that the last answer arrives even if what the
// client sends is not read.
func (c *limitedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// loggedEvery is how often clients can make one kind of line be logged.
const loggedEvery = 10 * time.Second

// seldom logs what clients can bring about as often as they like.
type seldom struct {
	log *slog.Logger

	mu     sync.Mutex
	last   time.Time
	silent int // since last
}

// warn logs a message, unless it has just done so.
func (s *seldom) warn(message string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if !s.last.IsZero() && now.Sub(s.last) < loggedEvery {
		s.silent++
		return
	}
	s.log.Warn(message, append(args, "notLogged", s.silent)...)
	s.last, s.silent = now, 0
}
