package tollgate

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/tollgate-apim/tollgate/feed"
	hold "github.com/tollgate-apim/tollgate/holding"
	"github.com/tollgate-apim/tollgate/quota"
	"github.com/tollgate-apim/tollgate/reporter"
	"github.com/tollgate-apim/tollgate/usage"
)

// account is what is kept for sync endpoints as long as Traefik runs: what was
// consumed stays consumed, and what was counted is reported, even if an API is
// taken out of the configuration for a while. Any number of goroutines may use
// it.
type account struct {
	counters *quota.Store
	reporter *reporter.Reporter
	// holdings are what was lent of limits that are shared. now is the clock of
	// that, in nanoseconds.
	holdings *hold.Store
	now      func() int64

	mu sync.Mutex
	// sharing says that there are limits that are shared: sharers is how many
	// middlewares share some, and while there are none, sharedUntil is for how long
	// it lasts at least.
	sharing     bool
	sharers     int
	sharedUntil int64
	// shared says that the last answer shared any, everShared that an answer ever
	// did, toldUnshared that it was told that the last one did not, and toldRestless
	// that it was told that tenures change all the time.
	shared, everShared, toldUnshared, toldRestless bool
	// sentAt is when the last report that shares was sent, answeredAt when the last
	// one was that was answered with shares, failing that the last one got no answer,
	// and awaiting that its answer is still to come.
	sentAt, answeredAt int64
	failing, awaiting  bool
	// lostFrom is from when on limits are lost. It is only used atomically.
	lostFrom *int64
	// poster is the feed whose endpoint gets reports, and tell is told of that;
	// nil while there is none.
	poster *feed.Feed
	tell   func(line string, failed bool)
	// touched are the callers that have asked or were refused since the last collection.
	touched []*caller
	// anonymous counts the refusals of unknown callers, atomically.
	anonymous map[usage.Row]*int64

	// asked are the callers that the last collection found touched. It belongs to
	// the collection under way.
	asked []*caller
}

// newAccount makes an account, whose reporter sleeps. It makes func values that
// last as long as the account, so it is one of init's: see launch in package feed.
var newAccount func(timing reporter.Timing) *account

func init() {
	newAccount = func(timing reporter.Timing) *account {
		a := &account{
			counters:  quota.NewStore(maxCounters),
			anonymous: map[usage.Row]*int64{},
			lostFrom:  new(int64),
			now:       func() int64 { return int64(time.Since(started)) },
		}
		a.judgeLocked()
		a.holdings = hold.NewStore(maxCounters, func() { a.hurry() })
		host, _ := os.Hostname()
		a.reporter = reporter.New(reporter.Config{
			Instance: func() string { return a.newInstance() },
			Host:     host,
			Collect:  func(add func(usage.Row), last bool) { a.collect(add, last) },
			State:    func() (int64, time.Duration) { return a.state() },
			Sharing:  func() bool { return a.shares() },
			Active:   func() bool { return a.holdings.Active() },
			Entries:  func(bytes int) (int64, []usage.Entry, int) { return a.entries(bytes) },
			Answered: func(answer *usage.Answer) { a.answered(answer) },
			Post:     func(body []byte, sharing bool) feed.Reply { return a.post(body, sharing) },
			Endpoint: func() string { return a.endpoint() },
			Report:   func(line string, failed bool) { a.report(line, failed) },
			Timing:   timing,
		})
		return a
	}
}

// newInstance draws the name of a life of a gateway, which is in no tenure yet.
func (a *account) newInstance() string {
	a.holdings.Leave()
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return fmt.Sprintf("%032x", time.Now().UnixNano())
	}
	return hex.EncodeToString(id)
}

// state tells of the table in force.
func (a *account) state() (revision int64, age time.Duration) {
	revision = 0
	age = 0
	if f, _ := a.posting(); f != nil {
		if snapshot := feed.Current(f); snapshot != nil {
			revision = snapshot.Table.Revision
			age = time.Since(snapshot.Confirmed)
		}
	}
	return revision, age
}

// endpoint returns where post sends reports to, or an empty text for nowhere.
func (a *account) endpoint() string {
	f, _ := a.posting()
	if f == nil {
		return ""
	}
	return feed.PostsTo(f)
}

// post sends a report, which shares limits or not.
func (a *account) post(body []byte, sharing bool) feed.Reply {
	f, _ := a.posting()
	if f == nil {
		return feed.Reply{Err: errors.New("no middleware is in use")}
	}
	if sharing {
		a.sending()
	}
	reply := feed.Post(f, usage.Path, body)
	a.sent(reply.Err != nil)
	return reply
}

func (a *account) report(line string, failed bool) {
	if _, tell := a.posting(); tell != nil {
		tell(line, failed)
	}
}

// posting returns the feed whose endpoint gets reports, and whom to tell of that.
// Both are nil if there is none.
func (a *account) posting() (*feed.Feed, func(line string, failed bool)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.poster, a.tell
}

// assign has a source's endpoint get the reports.
func (a *account) assign(src *source) {
	a.mu.Lock()
	other := a.poster != src.feed
	a.poster = src.feed
	a.tell = src.report
	a.mu.Unlock()
	if other {
		a.reporter.Renew()
	}
	a.reporter.Wake()
}

// unassign ends the reports with a last one.
func (a *account) unassign() {
	before, _ := a.posting()
	a.reporter.Sleep(func() { a.leave(before) })
}

// leave lets go of a feed, and the table that it has, unless another one has come.
func (a *account) leave(f *feed.Feed) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.poster == f {
		a.poster = nil
		a.tell = nil
	}
}
