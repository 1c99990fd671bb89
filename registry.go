package tollgate

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log"
	"strings"
	"sync"
	"time"

	"github.com/tollgate-apim/tollgate/feed"
	"github.com/tollgate-apim/tollgate/quota"
	"github.com/tollgate-apim/tollgate/reporter"
)

// maxCounters bounds the counters of one sync endpoint. There is one for each
// bucket that is in use, so clients cannot make them: the table does.
const maxCounters = 1 << 20

// linger is how long a source outlives its last middleware. Traefik ends all
// middlewares before it makes those of a new configuration.
const linger = time.Minute

// sources is all the state that outlives a middleware, and the only state of
// this package.
var sources = newRegistry(feed.Start, afterFunc)

// registry holds the sources in use, and the account of every endpoint. Any
// number of goroutines may use it.
type registry struct {
	start func(feed.Config, *feed.Snapshot) *feed.Feed
	after func(time.Duration, func())

	mu       sync.Mutex
	sources  map[string]*source // by settings
	acquired int                // how often
	// accounts and caches are kept for as long as Traefik runs.
	accounts map[string]*account    // by endpoint
	caches   map[string]*feed.Cache // by path
	// timing is that of reports; tests replace it.
	timing reporter.Timing
}

// source is a table as the middlewares with one set of settings see it.
type source struct {
	feed     *feed.Feed
	account  *account
	counters *quota.Store // of the account
	settings syncSettings

	// views holds the view of the table in force for each API and key source
	// that has a middleware, or had one when the table came.
	viewsMu sync.Mutex
	views   map[viewed]*heldView

	// uses counts the middlewares whose context has not ended, acquisitions
	// those that ever were, and acquired is when the last of them came, as
	// registry.acquired tells; all under registry.mu.
	uses, acquisitions, acquired int

	spells   spells // of dry runs
	report   func(line string, failed bool)
	mu       sync.Mutex
	reported map[string]bool
}

func newRegistry(start func(feed.Config, *feed.Snapshot) *feed.Feed, after func(time.Duration, func())) *registry {
	return &registry{
		start:    start,
		after:    after,
		sources:  map[string]*source{},
		accounts: map[string]*account{},
		caches:   map[string]*feed.Cache{},
	}
}

// acquire returns the source of s, starting it if there is none. It is held until
// ctx ends, and for a while longer.
func (r *registry) acquire(ctx context.Context, s syncSettings, report func(line string, failed bool)) *source {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := fmt.Sprintf("%#v", s)
	src := r.sources[name]
	if src == nil {
		src = r.newSourceLocked(s, report)
		r.sources[name] = src
	}
	src.uses++
	src.acquisitions++
	r.acquired++
	src.acquired = r.acquired
	src.account.assign(src)
	context.AfterFunc(ctx, func() {
		defer recovered(report)
		r.release(name, src)
	})
	return src
}

// newSourceLocked starts a source. Counters, and the table to begin with, are
// those of the endpoints: an edit of an interval or a token forgets neither, and
// neither does another endpoint beside those that there were.
func (r *registry) newSourceLocked(s syncSettings, report func(line string, failed bool)) *source {
	var last *feed.Snapshot
	for _, other := range r.sources {
		if !shareOne(other.settings.endpoints, s.endpoints) {
			continue
		}
		// What came over a connection that anybody could have answered is not
		// trusted where the configuration demands more.
		held := feed.Inherited(feed.Current(other.feed), publicKeys(s.publicKeys))
		if held != nil && (anybody(s.tls.InsecureSkipVerify, s.endpoints) || !anybody(other.settings.tls.InsecureSkipVerify, []string{held.From})) {
			last = newer(last, held)
		}
	}
	kept := r.accountLocked(s.endpoints)
	src := &source{
		account:  kept,
		counters: kept.counters,
		settings: s,
		views:    map[viewed]*heldView{},
		report:   report,
		reported: map[string]bool{},
	}
	src.feed = r.start(feedConfig(src, r.cacheLocked(src)), last)
	return src
}

// feedConfig returns what a source's feed goes by. It makes func values that last
// as long as the source, so it is one of init's: a call of it has no callers whose
// tables Yaegi would keep with them. See launch in package feed.
var feedConfig func(*source, *feed.Cache) feed.Config

func init() {
	feedConfig = func(src *source, cache *feed.Cache) feed.Config {
		s := src.settings
		return feed.Config{
			Endpoints:  s.endpoints,
			Token:      s.token,
			Interval:   s.interval,
			Timeout:    s.timeout,
			Wait:       s.wait,
			MaxBytes:   s.maxBytes,
			PublicKeys: publicKeys(s.publicKeys),
			Cache:      cache,
			Unchecked:  s.tls.InsecureSkipVerify,
			Client:     newClients(s, src.report),
			Activated:  src.activate,
			Report:     src.report,
		}
	}
}

// accountLocked returns the account of the first endpoint that has any, for all of
// them.
func (r *registry) accountLocked(endpoints []string) *account {
	var kept *account
	for _, e := range endpoints {
		if kept == nil {
			kept = r.accounts[e]
		}
	}
	if kept == nil {
		kept = newAccount(r.timing)
	}
	for _, e := range endpoints {
		if r.accounts[e] == nil {
			r.accounts[e] = kept
		}
	}
	return kept
}

// cacheLocked returns the cache of a new source, or nil if it has none.
func (r *registry) cacheLocked(src *source) *feed.Cache {
	path := src.settings.cacheFile
	if path == "" {
		return nil
	}
	cache := r.caches[path]
	if cache == nil {
		cache = feed.NewCache(path)
		r.caches[path] = cache
	}
	for _, other := range r.sources {
		if other.settings.cacheFile != path || sameTables(src.settings, other.settings) {
			continue
		}
		// The other one may be about to end. Whether it does shows later.
		other := other
		r.after(linger, func() {
			defer recovered(src.report)
			r.mu.Lock()
			both := src.uses > 0 && other.uses > 0
			r.mu.Unlock()
			if both {
				src.reportOnce("sync.cacheFile " + path + " is named by middlewares with another sync.endpoint or sync.publicKey too; " +
					"only one of their tables is kept: each needs a file of its own")
			}
		})
	}
	return cache
}

// sameTables says whether two settings ask for the same tables, so that a file may
// keep either's.
func sameTables(a, b syncSettings) bool {
	return strings.Join(a.endpoints, " ") == strings.Join(b.endpoints, " ") &&
		strings.Join(a.publicKeys, "") == strings.Join(b.publicKeys, "")
}

// shareOne says whether there is an endpoint in both lists.
func shareOne(a, b []string) bool {
	for _, x := range a {
		for _, y := range b {
			if x == y {
				return true
			}
		}
	}
	return false
}

// anybody says whether it could be anybody who answers for one of the endpoints.
func anybody(unchecked bool, endpoints []string) bool {
	for _, e := range endpoints {
		if strings.HasPrefix(strings.ToLower(e), "http:") {
			return true
		}
	}
	return unchecked
}

// publicKeys returns keys as the feed wants them.
func publicKeys(keys []string) []ed25519.PublicKey {
	var list []ed25519.PublicKey
	for _, key := range keys {
		list = append(list, ed25519.PublicKey(key))
	}
	return list
}

// viewed says what a view is for. Views find callers by the header that presented
// their key, so middlewares that read headers in other ways need views of theirs.
type viewed struct {
	api            string
	header, prefix string // of the key source
	shared         bool   // limits
}

// view returns where a view stands, for as long as ctx lasts.
func (s *source) view(ctx context.Context, of viewed) *heldView {
	held := s.useView(of)
	context.AfterFunc(ctx, func() {
		defer recovered(s.report)
		s.viewsMu.Lock()
		held.uses--
		s.viewsMu.Unlock()
	})
	return held
}

// useView returns where a view stands, for one more middleware.
func (s *source) useView(of viewed) *heldView {
	s.viewsMu.Lock()
	defer s.viewsMu.Unlock()
	held := s.views[of]
	if held == nil {
		held = &heldView{}
		s.views[of] = held
		if snapshot := feed.Current(s.feed); snapshot != nil {
			enforce(held, newView(snapshot.Table, of, s))
		}
	}
	held.uses++
	return held
}

// activate makes the table of a snapshot the one that all middlewares decide by,
// and gives up the views that nobody uses.
func (s *source) activate(snapshot *feed.Snapshot) {
	s.viewsMu.Lock()
	defer s.viewsMu.Unlock()
	for of, held := range s.views {
		if held.uses == 0 {
			delete(s.views, of)
		}
		// Requests in flight may still use one that was given up.
		enforce(held, newView(snapshot.Table, of, s))
	}
	s.account.reporter.Renew()
	if s.account.shares() {
		s.account.reporter.Hurry()
	}
}

// newer returns the snapshot with the higher revision. Either may be nil.
func newer(a, b *feed.Snapshot) *feed.Snapshot {
	if a == nil || b != nil && b.Table.Revision > a.Table.Revision {
		return b
	}
	return a
}

// release gives up one use of a source, and stops it if nobody comes back to it.
func (r *registry) release(name string, src *source) {
	r.mu.Lock()
	src.uses--
	idle, acquisitions := src.uses == 0, src.acquisitions
	if other := r.usedLocked(src.account); idle && other != nil {
		src.account.assign(other)
	}
	r.mu.Unlock()
	if !idle {
		return
	}
	r.after(linger, func() {
		defer recovered(src.report)
		r.mu.Lock()
		unused := src.uses == 0 && src.acquisitions == acquisitions
		if unused {
			delete(r.sources, name)
			if r.usedLocked(src.account) == nil {
				src.account.unassign()
			}
		}
		r.mu.Unlock()
		if unused {
			src.feed.Stop()
		}
	})
}

// usedLocked returns the source of an account that was acquired last and is in
// use, or nil if none is.
func (r *registry) usedLocked(kept *account) *source {
	var last *source
	for _, src := range r.sources {
		if src.account == kept && src.uses > 0 && (last == nil || src.acquired > last.acquired) {
			last = src
		}
	}
	return last
}

// reportOnce reports a line the first time that it comes up, and no more than a
// thousand lines.
func (s *source) reportOnce(line string) {
	s.mu.Lock()
	told := s.reported[line] || len(s.reported) >= 1000
	if !told {
		s.reported[line] = true
	}
	s.mu.Unlock()
	if !told {
		s.report(line, true)
	}
}

// report tells the operator. Inside Traefik what a plugin prints becomes a DEBUG
// line of its log, and what it writes where package log writes an ERROR line; os's
// own streams would bypass that log.
func report(line string, failed bool) {
	// A line may have names from a table in it, and must stay one line.
	line = "tollgate: " + headerValue(line)
	if failed {
		_, _ = fmt.Fprintln(log.Writer(), line)
		return
	}
	fmt.Println(line) //nolint:forbidigo // see above
}

// recovered keeps a panic in a goroutine of ours from ending Traefik.
func recovered(report func(line string, failed bool)) {
	if p := recover(); p != nil {
		report(fmt.Sprint("panic: ", p), true)
	}
}

// afterFunc is time.AfterFunc for those who never stop the timer.
func afterFunc(d time.Duration, f func()) {
	time.AfterFunc(d, f)
}
