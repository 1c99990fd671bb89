// Package tollgate is a middleware plugin for Traefik that admits a request to an
// API only if its key is known, every application that holds the key is
// subscribed to the API, and the plan of the subscription has room.
//
// The plugin is interpreted by Yaegi inside Traefik. There a call of a method
// costs as much as six calls of a function, and a call into compiled code as much
// as several statements. That is why the request path, and it alone, is written
// with plain functions and values prepared beforehand.
package tollgate

import (
	"context"
	"crypto/sha256"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/tollgate-apim/tollgate/feed"
	"github.com/tollgate-apim/tollgate/matcher"
)

// maxKeyBytes is the length of the longest key that is looked at. It bounds what
// hashing a request's key can cost.
const maxKeyBytes = 512

// gateway is the middleware in front of one API, on one router.
type gateway struct {
	next   http.Handler
	source *source
	// view holds the *view of the table in force; empty before the first.
	view *atomic.Value

	maxStaleness    time.Duration
	keySource       *keySource
	header          string // of keySource
	cookies         bool   // whether keySource names one
	hideCredentials bool
	identity        *identityNames
	// answers holds the refusals by their reason.
	answers map[string]*answer
}

// New returns the middleware, or an error that tells everything that is wrong
// with its configuration. Traefik calls it for each router that uses the
// middleware, and again on each dynamic reload, which it announces by ending ctx.
// New never waits for the network: until there is a table, requests are refused.
func New(ctx context.Context, next http.Handler, config *Config, _ string) (http.Handler, error) {
	s, err := newSettings(config)
	if err != nil {
		return nil, err
	}
	src := sources.acquire(ctx, s.sync, report)
	return &gateway{
		next:            next,
		source:          src,
		view:            src.view(ctx, viewed{s.api, s.keySource.header, s.keySource.prefix}),
		maxStaleness:    s.maxStaleness,
		keySource:       s.keySource,
		header:          s.keySource.header,
		cookies:         s.keySource.cookie != "",
		hideCredentials: s.hideCredentials,
		identity:        &s.identity,
		answers:         newAnswers(s),
	}, nil
}

// ServeHTTP admits a request and hands it on, or refuses it.
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v, _ := g.view.Load().(*view)
	if v == nil || g.maxStaleness > 0 && stale(g) {
		refuse(w, r, g, tableUnavailable)
		return
	}

	// Nearly all requests have the key in the header, and have come before.
	var c *caller
	at := inHeader
	if values := r.Header[g.header]; len(values) == 1 {
		v.mu.Lock()
		c = v.recalled[sha256.Sum256([]byte(values[0]))]
		v.mu.Unlock()
	}
	if c == nil {
		if c, at = meet(v, w, r, g); c == nil {
			return
		}
	}
	if c.refusal != "" {
		refuse(w, r, g, c.refusal)
		return
	}
	if c.filtered && !matcher.Allows(c.who, r.Method, r.URL.Path, r.URL.RawPath) {
		refuse(w, r, g, matcher.OperationForbidden)
		return
	}
	if c.limited && !spend(w, r, g, v, c) {
		return
	}

	identify(r.Header, g.identity, c)
	if g.hideCredentials {
		if at == inHeader && r.URL.RawQuery == "" && !g.cookies {
			delete(r.Header, g.header)
		} else {
			hideKey(r, g.keySource)
		}
	}
	g.next.ServeHTTP(w, r)
}

// stale reports whether the endpoint has not confirmed its table for too long.
func stale(g *gateway) bool {
	snapshot := feed.Current(g.source.feed)
	return snapshot == nil || time.Since(snapshot.Confirmed) > g.maxStaleness
}
