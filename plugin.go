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
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/tollgate-apim/tollgate/feed"
	"github.com/tollgate-apim/tollgate/hashing"
	"github.com/tollgate-apim/tollgate/matcher"
)

// maxKeyBytes is the length of the longest key that is looked at. It bounds what
// hashing a request's key can cost.
const maxKeyBytes = 512

// started is the origin of the clock that limits are counted by.
var started = time.Now()

// gateway is the middleware in front of one API, on one router.
type gateway struct {
	next     http.Handler
	settings *settings
	answers  *answers
	source   *source
	// view holds the *matcher.View of the table in force.
	view atomic.Value
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
	g := &gateway{next: next, settings: s, answers: newAnswers(s)}
	g.source = sources.acquire(ctx, s.sync, reporter(os.Stdout, os.Stderr))
	return g, nil
}

// ServeHTTP admits a request and hands it on, or refuses it.
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := g.settings
	now := time.Since(started)

	snapshot := feed.Current(g.source.feed)
	if snapshot == nil || s.maxStaleness > 0 && time.Since(snapshot.Confirmed) > s.maxStaleness {
		refuse(w, r, &g.answers.tableUnavailable)
		return
	}
	view, _ := g.view.Load().(*matcher.View)
	if view == nil || view.Table != snapshot.Table {
		view = newView(g, snapshot)
	}

	key, verdict := presentedKey(r, &s.keySource)
	if verdict == keyAbsent {
		refuse(w, r, &g.answers.keyMissing)
		return
	}
	if verdict == keyAmbiguous || len(key) > maxKeyBytes {
		refuse(w, r, &g.answers.keyInvalid)
		return
	}

	d := matcher.Decide(view, hashing.Digest(key), r.Method, r.URL.Path, r.URL.RawPath)
	if d.Refusal != "" {
		refuse(w, r, g.answers.of[d.Refusal])
		return
	}

	granted := d.Grant.Prepared.(*prepared)
	if granted.limited {
		left, ok := take(g, granted, int64(now/time.Microsecond))
		if !ok {
			refuse(w, r, &g.answers.countersFull)
			return
		}
		tellLeft(w.Header(), granted, &left)
		if left.Refusal != "" {
			refuseLimit(w, r, g.answers.of[left.Refusal], &left)
			return
		}
	}

	identify(r.Header, &s.identity, granted, d.KeyTitle)
	if s.hideCredentials {
		hideKey(r, &s.keySource)
	}
	g.next.ServeHTTP(w, r)
}

// newView makes the table of a snapshot the one that g decides by. Should two
// requests do so at once, each decides by a view of the same table.
func newView(g *gateway, snapshot *feed.Snapshot) *matcher.View {
	prepare := func(grant *matcher.Grant) { grant.Prepared = newPrepared(grant) }
	view := matcher.NewView(snapshot.Table, g.settings.api, prepare, g.source.reportOnce)
	g.view.Store(view)
	return view
}
