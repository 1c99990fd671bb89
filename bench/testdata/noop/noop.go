// Package noop is a middleware plugin that does nothing: what it costs is what
// any plugin costs at least.
package noop

import (
	"context"
	"net/http"
)

// Config has nothing to configure.
type Config struct{}

// CreateConfig returns the default configuration.
func CreateConfig() *Config { return &Config{} }

type noop struct {
	next http.Handler
}

// New returns the middleware.
func New(_ context.Context, next http.Handler, _ *Config, _ string) (http.Handler, error) {
	return &noop{next}, nil
}

// ServeHTTP hands every request on.
func (n *noop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.next.ServeHTTP(w, r)
}
