// Package tollgate is a middleware plugin for Traefik that admits a request to an
// API only if its key is known, every application that holds the key is
// subscribed to the API, and the plan of the subscription has room.
//
// The plugin is interpreted by Yaegi inside Traefik. There a call of a function
// allocates an object for each of its parameters, variables and intermediate
// results, reached or not, and a call of a method or into compiled code several
// more. That is why the request path, and it alone, is written with few and plain
// functions, values prepared beforehand, and what is rare in functions of its own.
package tollgate

import (
	"context"
	"crypto/sha256"
	"net/http"
	"time"

	"github.com/tollgate-apim/tollgate/feed"
	"github.com/tollgate-apim/tollgate/matcher"
	"github.com/tollgate-apim/tollgate/quota"
)

// maxKeyBytes is the length of the longest key that is looked at. It bounds what
// hashing a request's key can cost.
const maxKeyBytes = 512

// gateway is what the middleware in front of one API, on one router, is made of.
type gateway struct {
	next   http.Handler // gets the requests that are admitted
	api    string
	source *source
	held   *heldView

	maxStaleness    time.Duration
	keySource       *keySource
	header, prefix  string // of keySource
	hideCredentials bool
	identity        *identityNames
	// answers holds the refusals by their reason.
	answers    map[string]*answer
	keyInvalid *answer // one of them
	dryRun     bool
	// onLimitsLost is for shared limits.
	onLimitsLost string
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
	g := &gateway{
		next:            next,
		api:             s.api,
		source:          src,
		held:            src.view(ctx, viewed{s.api, s.keySource.header, s.keySource.prefix, s.shared}),
		maxStaleness:    s.maxStaleness,
		keySource:       s.keySource,
		header:          s.keySource.header,
		prefix:          s.keySource.prefix,
		hideCredentials: s.hideCredentials,
		identity:        &s.identity,
		answers:         newAnswers(s),
		dryRun:          s.dryRun,
		onLimitsLost:    s.onLimitsLost,
	}
	g.keyInvalid = g.answers[matcher.KeyInvalid]
	countAnswers(src.account, g.api, g.dryRun, g.answers)
	if g.dryRun {
		g.next = http.HandlerFunc(decided)
	}
	h := handler(g)
	if s.shared {
		src.account.share(ctx)
		h = sharedHandler(g)
	}
	if g.maxStaleness > 0 {
		h = whileFresh(h, g)
	}
	if g.dryRun {
		h = dryRun(next, h, g)
	}
	return h, nil
}

// handler returns the request path: it admits a request and hands it on, or refuses
// it. It is a function literal because what that captures, unlike a field or a name
// of another package, is reached without an intermediate result. Whatever is not the
// usual case is left to meet and admit, so that this has no variables for it.
func handler(g *gateway) http.Handler { //nolint:gocognit // each function that it were divided into would cost requests a call
	held, kept, next := g.held, g.source.account, g.next
	keyHeader, places, hide, elsewhere := g.header, g.keySource, g.hideCredentials, g.keySource.cookie != ""
	names, sum256 := g.identity, sha256.Sum256
	appID, subscription, plan, keyTitle := names.appID, names.subscription, names.plan, names.keyTitle
	allNamed := appID != "" && subscription != "" && plan != "" && keyTitle != ""

	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Nearly all requests have the key in the header, and have come before.
		h := r.Header
		values := h[keyHeader]
		if len(values) != 1 {
			meet(w, r, g, values)
			return
		}
		name := sum256([]byte(values[0]))
		held.Lock()
		c := held.recalled[name]
		if c == nil {
			held.Unlock()
			meet(w, r, g, values)
			return
		}
		if c.untouched {
			touch(kept, c)
		}
		c.asked++
		held.Unlock()
		if hide {
			if elsewhere || r.URL.RawQuery != "" {
				hideKey(r, places)
			} else {
				delete(h, keyHeader)
			}
		}

		tokens := int64(-1)
		if c.brisk {
			tokens = quota.TakeToken(c.counter, c.interval, c.depth, int64(since(started)))
		}
		if tokens >= 0 {
			left := w.Header()
			left["Ratelimit-Policy"] = c.policy
			if tokens < written {
				left["X-Ratelimit-Remaining"] = writtenTokens[tokens]
				left["Ratelimit"] = writtenRates[tokens]
			} else {
				writeTokens(left, tokens)
			}
		} else if c.checked && !admit(w, r, g, c) {
			return
		}

		if allNamed {
			h[appID] = c.appID
			h[subscription] = c.subscription
			h[plan] = c.plan
			if c.titled {
				h[keyTitle] = c.keyTitle
			} else {
				delete(h, keyTitle)
			}
		} else {
			identify(h, names, c)
		}
		if h["Connection"] != nil {
			keepIdentity(h, names)
		}
		next.ServeHTTP(w, r)
	})
}

// whileFresh is a gateway's handler that refuses requests when its table is stale.
func whileFresh(handler http.Handler, g *gateway) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if stale(g) {
			refuseUnknown(w, r, g, tableUnavailable)
			return
		}
		handler.ServeHTTP(w, r)
	})
}

// stale reports whether the endpoint has not confirmed its table for too long.
func stale(g *gateway) bool {
	snapshot := feed.Current(g.source.feed)
	return snapshot == nil || time.Since(snapshot.Confirmed) > g.maxStaleness
}
