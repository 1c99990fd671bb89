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
	"github.com/tollgate-apim/tollgate/hashing"
	"github.com/tollgate-apim/tollgate/matcher"
)

// maxKeyBytes is the length of the longest key that is looked at. It bounds what
// hashing a request's key can cost.
const maxKeyBytes = 512

// gateway is the middleware in front of one API, on one router.
type gateway struct {
	next   http.Handler
	source *source
	// view holds the *matcher.View of the table in force; empty before the first.
	view *atomic.Value

	maxStaleness    time.Duration
	keySource       *keySource
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
		view:            src.view(s.api),
		maxStaleness:    s.maxStaleness,
		keySource:       &s.keySource,
		hideCredentials: s.hideCredentials,
		identity:        &s.identity,
		answers:         newAnswers(s),
	}, nil
}

// ServeHTTP admits a request and hands it on, or refuses it.
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	view, _ := g.view.Load().(*matcher.View)
	if view == nil || g.maxStaleness > 0 && stale(g) {
		refuse(w, r, g, tableUnavailable)
		return
	}

	key, at := presentedKey(r, g.keySource)
	if at == nowhere || len(key) > maxKeyBytes {
		refuseKey(w, r, g, key)
		return
	}
	// The SHA-256 of a key costs a tenth of its digest, so it finds those that
	// came before, and the digest the others.
	sum := sha256.Sum256([]byte(key))
	caller := matcher.Known(view, sum)
	if caller == nil {
		caller = matcher.Meet(view, sum, hashing.Digest(key))
	}
	if caller.Refusal != "" || caller.Filtered && !matcher.Allows(caller, r.Method, r.URL.Path, r.URL.RawPath) {
		refuseCaller(w, r, g, caller)
		return
	}

	p := caller.Prepared.(*prepared)
	if p.limited && !spend(w, r, g, p) {
		return
	}
	identify(r.Header, g.identity, p)
	if g.hideCredentials {
		if at == inHeader {
			delete(r.Header, g.keySource.header)
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

// refuseKey refuses a request that has no key, or one that cannot be valid.
func refuseKey(w http.ResponseWriter, r *http.Request, g *gateway, key string) {
	reason := keyMissing
	if key != "" {
		reason = matcher.KeyInvalid
	}
	refuse(w, r, g, reason)
}

// refuseCaller refuses a caller that may not call this API, or not in this way.
func refuseCaller(w http.ResponseWriter, r *http.Request, g *gateway, caller *matcher.Caller) {
	reason := caller.Refusal
	if reason == "" {
		reason = matcher.OperationForbidden
	}
	refuse(w, r, g, reason)
}
