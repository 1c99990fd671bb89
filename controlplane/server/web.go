package server

import (
	"log/slog"
	"net/http"
	"time"
)

// How long a client may take for each step.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	// writeTimeout is for a large table to a distant gateway, without the time
	// for which a request is held.
	writeTimeout = 5 * time.Minute
	// idleTimeout is longer than gateways wait between polls.
	idleTimeout = 2 * time.Minute
)

// maxHeaderBytes is for a request's line and header.
const maxHeaderBytes = 16 << 10

// Web returns an HTTP server that serves s and has not been started. Shutting it
// down releases those who are being held.
func (s *Server) Web() *http.Server {
	web := s.web(s.Handler())
	web.RegisterOnShutdown(s.Release)
	return web
}

// web returns an HTTP server that is careful with its time and memory.
func (s *Server) web(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}
