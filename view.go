package tollgate

import (
	"crypto/sha256"
	"net/http"
	"sync"

	"github.com/tollgate-apim/tollgate/hashing"
	"github.com/tollgate-apim/tollgate/matcher"
	"github.com/tollgate-apim/tollgate/table"
)

// heldView is where the view of the table in force stands for the gateways that
// share it. Any number of goroutines may use it.
type heldView struct {
	sync.Mutex       // as in quota.Counter
	view       *view // nil before the first table
	// recalled has the callers of view whose key came in a header, by the
	// SHA-256 of its value, which costs a tenth of the digest and tells the key
	// no more than that.
	recalled map[[sha256.Size]byte]*caller

	uses int // of middlewares whose context has not ended; under source.viewsMu
}

// enforce puts a view in force.
func enforce(held *heldView, v *view) {
	held.Lock()
	defer held.Unlock()
	held.view, held.recalled = v, map[[sha256.Size]byte]*caller{}
}

// view is a table as seen by the gateways of one API. What a key may do there is
// worked out when it first comes, because a table may hold a million of them, and
// kept. A new table comes with new views, so nothing that is kept needs to be
// invalidated. Any number of goroutines may use a view.
type view struct {
	table  *table.Table
	api    string
	shared bool
	source *source

	resolving sync.Mutex // guards filters
	filters   matcher.Filters

	// resolved has the callers by the digest of their key. Unknown keys leave
	// no trace.
	mu       sync.Mutex
	resolved map[string]*caller
	// standIns has those that are counted in place of callers that are not kept;
	// nil before the first.
	standIns map[string]*caller
}

// maxCallers is how many callers a view keeps, and how many are recalled. One
// more starts over.
const maxCallers = 1 << 16

func newView(t *table.Table, of viewed, src *source) *view {
	return &view{table: t, api: of.api, shared: of.shared, source: src, filters: matcher.Filters{}, resolved: map[string]*caller{}}
}

// meet is the request path for a request whose caller cannot be told by its header
// alone, or comes for the first time. The values are those of its header.
func meet(w http.ResponseWriter, r *http.Request, g *gateway, values []string) {
	g.held.Lock()
	v := g.held.view
	g.held.Unlock()
	if v == nil {
		refuseUnknown(w, r, g, tableUnavailable)
		return
	}
	if len(values) != 1 {
		meetElsewhere(w, r, g, v)
		return
	}
	key := usualKey(values[0], g.prefix)
	if key == "" {
		meetElsewhere(w, r, g, v)
		return
	}
	if len(key) <= maxKeyBytes {
		digest := hashing.Digest(key)
		if table.Lists(v.table, digest) {
			welcome(w, r, g, v, digest, inHeader)
			return
		}
	}
	refuse(w, r, g, g.keyInvalid, g.keyInvalid.times)
}

// meetElsewhere is meet for a key in any place and form.
func meetElsewhere(w http.ResponseWriter, r *http.Request, g *gateway, v *view) {
	if r.Header[g.header] == nil && r.URL.RawQuery == "" && g.keySource.cookie == "" {
		refuseUnknown(w, r, g, keyMissing)
		return
	}
	meetAnywhere(w, r, g, v)
}

// meetAnywhere is meetElsewhere for a request that may have a key.
func meetAnywhere(w http.ResponseWriter, r *http.Request, g *gateway, v *view) {
	key, at := presentedKey(r, g.keySource)
	if at == nowhere || len(key) > maxKeyBytes {
		reason := matcher.KeyInvalid
		if key == "" {
			reason = keyMissing
		}
		refuseUnknown(w, r, g, reason)
		return
	}
	digest := hashing.Digest(key)
	if !table.Lists(v.table, digest) {
		refuseUnknown(w, r, g, matcher.KeyInvalid)
		return
	}
	welcome(w, r, g, v, digest, at)
}

// welcome is meet for a key with a digest that the table lists, which was found at
// a place.
func welcome(w http.ResponseWriter, r *http.Request, g *gateway, v *view, digest string, at place) {
	c := resolve(v, digest)
	if c == nil {
		refuseUnknown(w, r, g, matcher.KeyInvalid)
		return
	}
	if uncounted(c) {
		askAs(standIn(v, c), g, c)
	} else {
		ask(g, c)
	}
	if at == inHeader {
		keep(g.held, v, c, sha256.Sum256([]byte(r.Header[g.header][0])))
	}
	if g.hideCredentials {
		hideKey(r, g.keySource)
	}

	admitted := false
	if c.shared {
		admitted = admitShared(w, r, g, c)
	} else {
		admitted = admit(w, r, g, c)
	}
	if !admitted {
		return
	}
	identify(r.Header, g.identity, c)
	if r.Header["Connection"] != nil {
		keepIdentity(r.Header, g.identity)
	}
	g.next.ServeHTTP(w, r)
}

// uncounted says whether there is no room for what a caller's requests are counted
// by.
func uncounted(c *caller) bool {
	return c.limited && c.allowance == nil && c.lent == nil
}

// resolve works out what the key of a digest may do, or returns nil if it is
// unknown or suspended.
func resolve(v *view, digest string) *caller {
	v.mu.Lock()
	c := v.resolved[digest]
	v.mu.Unlock()
	if c != nil {
		return c
	}
	v.resolving.Lock()
	who, problems := matcher.Resolve(v.table, v.api, digest, v.filters)
	v.resolving.Unlock()
	for _, problem := range problems {
		v.source.reportOnce(problem)
	}
	if who.Refusal == matcher.KeyInvalid {
		return nil
	}
	c = newCaller(who, v.source, v.shared, digest)
	if uncounted(c) {
		// The store of counters is full: try again at the next request.
		return c
	}
	v.mu.Lock()
	if len(v.resolved) >= maxCallers {
		v.resolved = map[string]*caller{}
	}
	v.resolved[digest] = c
	v.mu.Unlock()
	return c
}

// standIn returns a caller that is counted in place of c, which is not kept, and
// of all others with the key.
func standIn(v *view, c *caller) *caller {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.standIns == nil || len(v.standIns) >= maxCallers {
		v.standIns = map[string]*caller{}
	}
	if v.standIns[c.digest] == nil {
		v.standIns[c.digest] = c
	}
	return v.standIns[c.digest]
}

// keep makes a caller one that is recalled by the header that presented its key,
// if its view is in force.
func keep(held *heldView, v *view, c *caller, header [sha256.Size]byte) {
	held.Lock()
	defer held.Unlock()
	if held.view != v || uncounted(c) {
		return
	}
	if len(held.recalled) >= maxCallers {
		held.recalled = map[[sha256.Size]byte]*caller{}
	}
	held.recalled[header] = c
	c.header = header
}

// renew returns a caller with counters fetched anew, and has it resolved anew when
// it comes again. Nothing else of it changes: what a request is charged to has to
// be what its upstream is told, even if another table came into force meanwhile.
func renew(held *heldView, src *source, c *caller) *caller {
	held.Lock()
	v := held.view
	if held.recalled[c.header] == c {
		delete(held.recalled, c.header)
	}
	held.Unlock()
	v.mu.Lock()
	if v.resolved[c.digest] == c {
		delete(v.resolved, c.digest)
	}
	v.mu.Unlock()
	again := newCaller(c.who, src, c.shared, c.digest)
	again.refused = c.refused
	return again
}
