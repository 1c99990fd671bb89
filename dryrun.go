package tollgate

import (
	"net/http"
	"strconv"
	"sync"
	"time"
)

// dryRunHeader is the request header that tells the upstream, and access logs,
// why a request would have been refused.
const dryRunHeader = "X-Tollgate-Dry-Run"

// dryRun hands all requests on to next, whatever decide says, and adds what it
// says to them: who is calling, and why they would have been refused. It changes
// nothing that a client sees, and leaves keys where they are: an upstream that
// still checks them goes on doing so.
func dryRun(next, decide http.Handler, g *gateway) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, name := range g.identity.list() {
			delete(r.Header, name)
		}
		decide.ServeHTTP(&unsentAnswer{header: http.Header{}}, r)
		if r.Header["Connection"] != nil {
			keepIdentity(r.Header, g.identity)
		}
		g.source.spells.end(time.Since(started), g.source.report)
		next.ServeHTTP(w, r)
	})
}

// unsentAnswer is an answer that nobody gets.
type unsentAnswer struct {
	header http.Header
}

func (a *unsentAnswer) Header() http.Header         { return a.header }
func (a *unsentAnswer) WriteHeader(_ int)           {}
func (a *unsentAnswer) Write(p []byte) (int, error) { return len(p), nil }

// decided ends a decision of a dry run.
func decided(_ http.ResponseWriter, _ *http.Request) {}

// refuseInDryRun is refuse in a dry run. A caller that is known was told to the
// upstream before.
func refuseInDryRun(r *http.Request, g *gateway, a *answer) {
	r.Header[dryRunHeader] = []string{a.reason}
	what := "requests to " + g.api + " that would be refused: " + a.reason
	if appID := r.Header[g.identity.appID]; len(appID) == 1 {
		what += ", application " + strconv.Quote(appID[0])
	}
	g.source.spells.happens(what, time.Since(started), g.source.report)
}

// calm is how long something may not have happened when its spell is over.
const calm = time.Minute

// maxSpells bounds how many spells are told apart.
const maxSpells = 1000

// spells reports when something begins to happen and when it no longer does,
// however often it happens in between. Any number of goroutines may use it.
type spells struct {
	mu    sync.Mutex
	looks time.Duration // when to look for spells that are over
	open  map[string]*spell
}

type spell struct {
	last  time.Duration
	times int64
}

// end reports what has not happened for a while at the time now.
func (s *spells) end(now time.Duration, report func(line string, failed bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now < s.looks {
		return
	}
	s.looks = now + calm/6
	for what, over := range s.open {
		if now-over.last >= calm {
			delete(s.open, what)
			report("dry run: no longer "+what+" ("+decimal(over.times)+" in all)", false)
		}
	}
}

// happens notes that something happens at the time now, and reports it if that is
// the beginning of a spell.
func (s *spells) happens(what string, now time.Duration, report func(line string, failed bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[string]*spell{}
	}
	current := s.open[what]
	if current == nil {
		if len(s.open) >= maxSpells {
			return
		}
		current = &spell{}
		s.open[what] = current
		report("dry run: "+what, true)
	}
	current.last = now
	current.times++
}
