package tollgate

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/tollgate-apim/tollgate/matcher"
	"github.com/tollgate-apim/tollgate/quota"
)

// answer is a refusal made ready: requests differ only in Retry-After.
type answer struct {
	status int
	header []headerField
	body   []byte
}

type headerField struct {
	name  string
	value []string
}

// answers holds all refusals of one middleware.
type answers struct {
	tableUnavailable answer
	keyMissing       answer
	keyInvalid       answer
	countersFull     answer
	// of finds an answer by the reason that matcher or quota give.
	of map[string]*answer
}

// newAnswers prepares the refusals.
func newAnswers(s *settings) *answers {
	again := headerField{"Retry-After", []string{seconds(int64(retryUnavailable(s) / time.Microsecond))}}
	all := &answers{
		tableUnavailable: newAnswer(s, http.StatusServiceUnavailable, "table_unavailable",
			"The gateway cannot check API keys at present.", again),
		keyMissing: newAnswer(s, http.StatusUnauthorized, "key_missing",
			"The request has no API key.", headerField{"Www-Authenticate", []string{challenge(s, "")}}),
		keyInvalid: newAnswer(s, http.StatusUnauthorized, matcher.KeyInvalid,
			"The API key is not valid.", headerField{"Www-Authenticate", []string{challenge(s, `, error="invalid_token"`)}}),
		countersFull: newAnswer(s, http.StatusServiceUnavailable, "counters_full",
			"The gateway cannot count this request at present.", again),
	}
	subscriptionMissing := newAnswer(s, http.StatusForbidden, matcher.SubscriptionMissing,
		"No subscription allows this API key to call this API.")
	operationForbidden := newAnswer(s, http.StatusForbidden, matcher.OperationForbidden,
		"The subscription does not include this operation.")
	rateLimited := newAnswer(s, http.StatusTooManyRequests, quota.RateLimited,
		"The rate limit is used up.")
	quotaExceeded := newAnswer(s, http.StatusTooManyRequests, quota.QuotaExceeded,
		"The quota is used up.")
	all.of = map[string]*answer{
		matcher.KeyInvalid:          &all.keyInvalid,
		matcher.SubscriptionMissing: &subscriptionMissing,
		matcher.OperationForbidden:  &operationForbidden,
		quota.RateLimited:           &rateLimited,
		quota.QuotaExceeded:         &quotaExceeded,
	}
	return all
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
func newAnswer(s *settings, status int, reason, detail string, header ...headerField) answer {
	a := answer{status: status, header: append(header, headerField{"Cache-Control", []string{"no-store"}})}
	if s.problemBody {
		a.body, _ = json.Marshal(struct {
			Type   string `json:"type"`
			Title  string `json:"title"`
			Status int    `json:"status"`
			Detail string `json:"detail"`
			Reason string `json:"reason"`
		}{"about:blank", http.StatusText(status), status, detail, reason})
		a.header = append(a.header, headerField{"Content-Type", []string{"application/problem+json"}})
	}
	a.header = append(a.header, headerField{"Content-Length", []string{decimal(int64(len(a.body)))}})
	return a
}

// refuse answers a request in place of the upstream. All refusals end here.
func refuse(w http.ResponseWriter, r *http.Request, a *answer) {
	h := w.Header()
	for i := range a.header {
		h[a.header[i].name] = a.header[i].value
	}
	w.WriteHeader(a.status)
	if len(a.body) > 0 && r.Method != http.MethodHead {
		_, _ = w.Write(a.body)
	}
}

// refuseLimit refuses a request whose limit is used up until later.
func refuseLimit(w http.ResponseWriter, r *http.Request, a *answer, d *quota.Decision) {
	w.Header()["Retry-After"] = []string{seconds(d.RetryAfter)}
	refuse(w, r, a)
}
