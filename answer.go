package tollgate

import (
	"encoding/json"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/tollgate-apim/tollgate/matcher"
	"github.com/tollgate-apim/tollgate/quota"
)

// answer is a refusal made ready. Header values are shared by many answers: they
// are replaced, never written to.
type answer struct {
	reason string
	status int
	body   []byte
	length []string // Content-Length
	// headers that not all answers have. Where there is none, its name and value
	// are those of another one.
	name, typeName   string
	value, typeValue []string

	// times counts how often unknown callers have got it since that was last
	// collected, and index says which of caller.refused does for known ones.
	times *int64
	index int
}

// Header values of all refusals.
var (
	noStore     = []string{"no-store"}
	problemType = []string{"application/problem+json"}
)

// Reasons to refuse that are the gateway's own. The others are those of packages
// matcher and quota.
const (
	tableUnavailable = "table_unavailable"
	keyMissing       = "key_missing"
	countersFull     = "counters_full"
)

// methodHead is http.MethodHead: a constant of another package takes an interpreted
// function an object.
const methodHead = http.MethodHead

// newAnswers prepares the refusals, by their reason.
func newAnswers(s *settings) map[string]*answer {
	again := seconds(int64(retryUnavailable(s)))
	return map[string]*answer{
		tableUnavailable: newAnswer(s, http.StatusServiceUnavailable, tableUnavailable,
			"The gateway cannot check API keys at present.", "Retry-After", again),
		countersFull: newAnswer(s, http.StatusServiceUnavailable, countersFull,
			"The gateway cannot count this request at present.", "Retry-After", again),
		keyMissing: newAnswer(s, http.StatusUnauthorized, keyMissing,
			"The request has no API key.", "Www-Authenticate", challenge(s, "")),
		matcher.KeyInvalid: newAnswer(s, http.StatusUnauthorized, matcher.KeyInvalid,
			"The API key is not valid.", "Www-Authenticate", challenge(s, `, error="invalid_token"`)),
		matcher.SubscriptionMissing: newAnswer(s, http.StatusForbidden, matcher.SubscriptionMissing,
			"No subscription allows this API key to call this API.", "", ""),
		matcher.OperationForbidden: newAnswer(s, http.StatusForbidden, matcher.OperationForbidden,
			"The subscription does not include this operation.", "", ""),
		quota.RateLimited: newAnswer(s, http.StatusTooManyRequests, quota.RateLimited,
			"The rate limit is used up.", "", ""),
		limitsUnavailable: newAnswer(s, http.StatusTooManyRequests, limitsUnavailable,
			"The gateway cannot share limits with others at present.", "", ""),
		quota.QuotaExceeded: newAnswer(s, http.StatusTooManyRequests, quota.QuotaExceeded,
			"The quota is used up.", "", ""),
	}
}

// retryUnavailable is when to ask again while there is no table: a poll later,
// within reason.
func retryUnavailable(s *settings) time.Duration {
	if s.sync.interval > time.Minute {
		return time.Minute
	}
	return s.sync.interval
}

// challenge is the value of WWW-Authenticate. It names the scheme that the key
// is expected with; where there is none, "Key" stands for it, since RFC 9110
// demands some scheme. RFC 6750's error is for the Bearer scheme alone.
func challenge(s *settings, bearerError string) string {
	realm := ` realm="` + s.api + `"`
	switch s.keySource.scheme {
	case "":
		return "Key" + realm
	case "Bearer":
		return "Bearer" + realm + bearerError
	}
	return s.keySource.scheme + realm
}

// newAnswer prepares one refusal, with a body of RFC 9457 or none.
func newAnswer(s *settings, status int, reason, detail, headerName, headerValue string) *answer {
	a := &answer{
		reason: reason, status: status,
		name: headerName, value: []string{headerValue},
		typeName: "Cache-Control", typeValue: noStore,
	}
	if headerName == "" {
		a.name = "Cache-Control"
		a.value = noStore
	}
	if s.problemBody {
		a.typeName = "Content-Type"
		a.typeValue = problemType
		a.body, _ = json.Marshal(struct {
			Type   string `json:"type"`
			Title  string `json:"title"`
			Status int    `json:"status"`
			Detail string `json:"detail"`
			Reason string `json:"reason"`
		}{"about:blank", http.StatusText(status), status, detail, reason})
	}
	a.length = []string{decimal(int64(len(a.body)))}
	return a
}

// refuseCaller is refuse for a caller that is known.
func refuseCaller(w http.ResponseWriter, r *http.Request, g *gateway, c *caller, reason string) {
	a := g.answers[reason]
	if g.dryRun && c.appID != nil {
		identify(r.Header, g.identity, c)
	}
	refuse(w, r, g, a, &c.refused[a.index])
}

// refuseUnknown is refuse for callers that are not known.
func refuseUnknown(w http.ResponseWriter, r *http.Request, g *gateway, reason string) {
	a := g.answers[reason]
	refuse(w, r, g, a, a.times)
}

// refuse answers a request in place of the upstream, and counts that. All refusals
// end here.
func refuse(w http.ResponseWriter, r *http.Request, g *gateway, a *answer, times *int64) {
	atomic.AddInt64(times, 1)
	if g.dryRun {
		refuseInDryRun(r, g, a)
		return
	}
	h := w.Header()
	h["Cache-Control"] = noStore
	h["Content-Length"] = a.length
	h[a.name] = a.value
	h[a.typeName] = a.typeValue
	w.WriteHeader(a.status)
	if r.Method != methodHead {
		_, _ = w.Write(a.body)
	}
}
