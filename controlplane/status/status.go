// Package status is the document in which a control plane says how it and its
// gateways are, and how people see that in a terminal.
package status

import (
	"cmp"
	"encoding/json"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/ledger"
	"github.com/tollgate-apim/tollgate/controlplane/server"
	"github.com/tollgate-apim/tollgate/controlplane/sharing"
	"github.com/tollgate-apim/tollgate/usage"
)

// Path is where a control plane says how it is, relative to its base URL.
const Path = "/v1/status"

// Document is what a control plane says. It knows of what was reported to itself
// since it was started; others that serve the same gateways have documents of
// their own.
type Document struct {
	// Time is when this was so.
	Time time.Time `json:"time"`
	// Revision is that of the table in force, and PublishedAt when it was put in
	// force here; 0 and none before the first.
	Revision    int64      `json:"revision"`
	PublishedAt *time.Time `json:"publishedAt,omitempty"`
	// KeptOut says that the last change of the manifests could not be read, so
	// that the table before it stays in force.
	KeptOut  bool     `json:"keptOut"`
	Findings Findings `json:"findings"`
	Store    Store    `json:"store"`
	Reports  Reports  `json:"reports"`
	Requests Requests `json:"requests"`
	Busiest  Busiest  `json:"busiest"`
	// Gateways are those that have reported within the last ten minutes.
	Gateways []Gateway `json:"gateways"`
}

// Findings counts those of the manifests as last read.
type Findings struct {
	Errors   int     `json:"errors"`
	Warnings int     `json:"warnings"`
	Checks   []Check `json:"checks"`
}

// Check counts the findings of one check.
type Check struct {
	Check    finding.Rule     `json:"check"`
	Severity finding.Severity `json:"severity"`
	Count    int              `json:"count"`
}

// Store says how the store was when it was last asked.
type Store struct {
	Kind    string `json:"kind"`
	Healthy bool   `json:"healthy"`
	// Since is when that began, and Failure why it is not healthy. Before the store was
	// first asked it is not healthy, and there is neither.
	Since   *time.Time `json:"since,omitempty"`
	Failure string     `json:"failure,omitempty"`
}

// Reports counts those that have arrived, by what became of them.
type Reports struct {
	Accepted  int64 `json:"accepted"`
	Duplicate int64 `json:"duplicate"`
	Refused   int64 `json:"refused"`
	Failed    int64 `json:"failed"`
	Deferred  int64 `json:"deferred"`
	Lost      int64 `json:"lost"`
}

// Requests counts those that were reported.
type Requests struct {
	Total      int64 `json:"total"`
	Refused    int64 `json:"refused"`
	LastMinute Count `json:"lastMinute"`
}

// Count is a number of requests, and how many of these were refused.
type Count struct {
	Requests int64 `json:"requests"`
	Refused  int64 `json:"refused"`
}

// Busiest are the applications and the APIs with the most requests in the last
// minute, the most first, and of limits that gateways share those of which the largest
// part is used.
type Busiest struct {
	Applications []Busy   `json:"applications"`
	APIs         []Busy   `json:"apis"`
	Buckets      []Bucket `json:"buckets"`
}

// Bucket is a limit that gateways share, as it was when a gateway last told of it.
type Bucket struct {
	// Kind is quota or rate.
	Kind   string `json:"kind"`
	Bucket string `json:"bucket"`
	Plan   string `json:"plan"`
	// Limit is how many requests the plan allows in Period, a Go duration.
	Limit  int64  `json:"limit"`
	Period string `json:"period"`
	// Used is what part of that gateways have used or hold, from 0 to 1; more after an
	// edit of the plan.
	Used float64 `json:"used"`
	// Remaining is what is left of a quota.
	Remaining *int64    `json:"remaining,omitempty"`
	SettledAt time.Time `json:"settledAt"`
}

// Busy counts the requests of the last minute that had something in common.
type Busy struct {
	Name string `json:"name"`
	Count
}

// Gateway is one that reports.
type Gateway struct {
	Instance string `json:"instance"`
	Host     string `json:"host"`
	// Revision is that of its table in force, 0 if it has none, and Lag how much
	// higher that of the control plane is.
	Revision int64 `json:"revision"`
	Lag      int64 `json:"lag"`
	// TableAge is how many seconds ago its table was last confirmed, as far as is
	// known.
	TableAge float64   `json:"tableAge"`
	LastSeen time.Time `json:"lastSeen"`
}

// mostBusy is how many applications, APIs and buckets are told.
const mostBusy = 10

// Source is where documents come from.
type Source struct {
	Server *server.Server
	Ledger *ledger.Ledger
	// Sharing may be nil.
	Sharing *sharing.Sharing
	// StoreKind is what the ledger's store is called.
	StoreKind string
	// Now tells the time; nil means time.Now.
	Now func() time.Time
}

// ServeHTTP answers with a document.
func (s Source) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	// Who does not take it has gone.
	_ = json.NewEncoder(w).Encode(s.Document())
}

// Document returns how things are.
func (s Source) Document() *Document {
	if s.Now == nil {
		s.Now = time.Now
	}
	state, health := s.Server.State(), s.Ledger.Health()
	d := &Document{
		Time: s.Now().UTC(), Revision: state.Revision, KeptOut: state.KeptOut, Findings: findingsOf(state.Findings),
		Store:    Store{Kind: s.StoreKind, Healthy: health.Failure == "" && !health.Since.IsZero(), Since: utc(health.Since), Failure: health.Failure},
		Reports:  Reports(s.Ledger.Reports()),
		Gateways: []Gateway{},
	}
	d.PublishedAt = utc(state.PublishedAt)
	for _, r := range s.Ledger.Requests() {
		d.Requests.Total = plus(d.Requests.Total, r.Count)
		if r.Code != 0 {
			d.Requests.Refused = plus(d.Requests.Refused, r.Count)
		}
	}
	busiest := s.Ledger.Busiest(mostBusy)
	d.Requests.LastMinute = countOf(busiest.All)
	d.Busiest = Busiest{Applications: busy(busiest.Applications), APIs: busy(busiest.APIs), Buckets: s.buckets()}
	for _, g := range s.Ledger.Gateways() {
		d.Gateways = append(d.Gateways, Gateway{
			Instance: g.Instance, Host: g.Host, Revision: g.Revision, Lag: d.Revision - g.Revision,
			TableAge: g.TableAge.Seconds(), LastSeen: g.LastSeen.UTC(),
		})
	}
	return d
}

// utc returns a time as documents tell it; nil for none.
func utc(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func plus(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

func countOf(b ledger.Busy) Count { return Count{Requests: b.Requests, Refused: b.Refused} }

func busy(list []ledger.Busy) []Busy {
	told := make([]Busy, len(list))
	for i, b := range list {
		told[i] = Busy{Name: b.Name, Count: countOf(b)}
	}
	return told
}

// buckets returns those of which the largest part is used.
func (s Source) buckets() []Bucket {
	told := []Bucket{}
	if s.Sharing == nil {
		return told
	}
	for _, b := range s.Sharing.Busiest(mostBusy) {
		bucket := Bucket{
			Kind: b.Kind, Bucket: b.Name, Plan: b.Plan, Limit: b.Limit, Period: b.Period.String(), Used: b.Used, SettledAt: b.SettledAt.UTC(),
		}
		if b.Kind == usage.KindQuota {
			bucket.Remaining = &b.Remaining
		}
		told = append(told, bucket)
	}
	return told
}

// findingsOf returns counts of findings in order.
func findingsOf(counts map[server.Kind]int) Findings {
	f := Findings{Checks: []Check{}}
	for kind, n := range counts {
		if kind.Severity == finding.Error {
			f.Errors += n
		} else {
			f.Warnings += n
		}
		f.Checks = append(f.Checks, Check{Check: kind.Rule, Severity: kind.Severity, Count: n})
	}
	slices.SortFunc(f.Checks, func(a, b Check) int {
		return cmp.Or(cmp.Compare(a.Severity, b.Severity), cmp.Compare(a.Check, b.Check))
	})
	return f
}
