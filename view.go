package tollgate

import (
	"crypto/sha256"
	"net/http"
	"sync"

	"github.com/tollgate-apim/tollgate/hashing"
	"github.com/tollgate-apim/tollgate/matcher"
	"github.com/tollgate-apim/tollgate/table"
)

// view is a table as seen by the gateways of one API. What a key may do there is
// worked out when it first comes, because a table may hold a million of them, and
// kept. A new table comes with new views, so nothing that is kept needs to be
// invalidated. Any number of goroutines may use a view.
type view struct {
	table  *table.Table
	api    string
	source *source

	resolving sync.Mutex // guards filters
	filters   matcher.Filters

	mu sync.Mutex
	// resolved has the callers by digest, and recalled those whose key came in
	// a header by the SHA-256 of its value, which costs a tenth of the digest.
	// Neither tells the key. Unknown keys leave no trace.
	resolved map[string]*caller
	recalled map[[sha256.Size]byte]*caller
}

// maxCallers is how many callers a view keeps. One more starts over.
const maxCallers = 1 << 16

func newView(t *table.Table, api string, src *source) *view {
	return &view{
		table: t, api: api, source: src, filters: matcher.Filters{},
		resolved: map[string]*caller{}, recalled: map[[sha256.Size]byte]*caller{},
	}
}

// meet returns the caller of a request that cannot be told by its header alone,
// or that comes for the first time, and where its key is. It answers a request
// without a valid key itself, and then returns nil.
func meet(v *view, w http.ResponseWriter, r *http.Request, g *gateway) (*caller, place) {
	key, at := presentedKey(r, g.keySource)
	if at == nowhere || len(key) > maxKeyBytes {
		reason := matcher.KeyInvalid
		if key == "" {
			reason = keyMissing
		}
		refuse(w, r, g, reason)
		return nil, nowhere
	}
	c := resolve(v, hashing.Digest(key))
	if c == nil {
		refuse(w, r, g, matcher.KeyInvalid)
		return nil, nowhere
	}
	if at == inHeader {
		keep(v, c, sha256.Sum256([]byte(r.Header[g.header][0])))
	}
	return c, at
}

// resolve works out what the key of a digest may do, or returns nil if it is
// unknown or suspended.
func resolve(v *view, digest string) *caller {
	if len(table.Holders(v.table, digest)) == 0 {
		return nil
	}
	return resolveListed(v, digest)
}

// resolveListed is resolve for a key that the table lists. On its own, it costs
// unknown keys nothing.
func resolveListed(v *view, digest string) *caller {
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
	c = newCaller(who, v.source)
	if c.limited && c.allowance == nil {
		// The store of counters is full: try again at the next request.
		return c
	}
	c.digest = digest
	v.mu.Lock()
	if len(v.resolved) >= maxCallers {
		v.resolved, v.recalled = map[string]*caller{}, map[[sha256.Size]byte]*caller{}
	}
	v.resolved[digest] = c
	v.mu.Unlock()
	return c
}

// keep makes a resolved caller one that is recalled by the header that presented
// its key.
func keep(v *view, c *caller, header [sha256.Size]byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.resolved[c.digest] == c {
		v.recalled[header] = c
		c.header = header
	}
}

// forget makes the view resolve a caller anew when it comes again.
func forget(v *view, c *caller) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.resolved, c.digest)
	delete(v.recalled, c.header)
}
