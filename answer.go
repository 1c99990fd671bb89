package tollgate

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/tollgate-apim/tollgate/matcher"
	"github.com/tollgate-apim/tollgate/quota"
)

// answer is a refusal made ready.
type answer struct {
	status int
	header []headerField
	body   []byte
}

type headerField struct {
	name  string
	value []string
}

// Reasons to refuse that are the gateway's own. The others are those of packages
// matcher and quota.
const (
	tableUnavailable = "table_unavailable"
	keyMissing       = "key_missing"
	countersFull     = "counters_full"
)

// newAnswers prepares the refusals, by their reason.
func newAnswers(s *settings) map[string]*answer {
	again := headerField{"Retry-After", []string{seconds(int64(retryUnavailable(s)))}}
	challenged := func(bearerError string) headerField {
		return headerField{"Www-Authenticate", []string{challenge(s, bearerError)}}
	}
	return map[string]*answer{
		tableUnavailable: newAnswer(s, http.StatusServiceUnavailable, tableUnavailable,
			"The gateway cannot check API keys at present.", again),
		countersFull: newAnswer(s, http.StatusServiceUnavailable, countersFull,
			"The gateway cannot count this request at present.", again),
		keyMissing: newAnswer(s, http.StatusUnauthorized, keyMissing,
			"The request has no API key.", challenged("")),
		matcher.KeyInvalid: newAnswer(s, http.StatusUnauthorized, matcher.KeyInvalid,
			"The API key is not valid.", challenged(`, error="invalid_token"`)),
		matcher.SubscriptionMissing: newAnswer(s, http.StatusForbidden, matcher.SubscriptionMissing,
			"No subscription allows this API key to call this API."),
		matcher.OperationForbidden: newAnswer(s, http.StatusForbidden, matcher.OperationForbidden,
			"The subscription does not include this operation."),
		quota.RateLimited: newAnswer(s, http.StatusTooManyRequests, quota.RateLimited,
			"The rate limit is used up."),
		quota.QuotaExceeded: newAnswer(s, http.StatusTooManyRequests, quota.QuotaExceeded,
			"The quota is used up."),
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
func newAnswer(s *settings, status int, reason, detail string, header ...headerField) *answer {
	a := &answer{status: status, header: append(header, headerField{"Cache-Control", []string{"no-store"}})}
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
func refuse(w http.ResponseWriter, r *http.Request, g *gateway, reason string) {
	a := g.answers[reason]
	h := w.Header()
	for _, field := range a.header {
		h[field.name] = field.value
	}
	w.WriteHeader(a.status)
	if len(a.body) > 0 && r.Method != http.MethodHead {
		_, _ = w.Write(a.body)
	}
}
