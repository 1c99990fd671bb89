package tollgate

import (
	"net/http"
	"strconv"
	"time"

	"github.com/tollgate-apim/tollgate/matcher"
	"github.com/tollgate-apim/tollgate/quota"
)

// started is the origin of the clock that limits are counted by, in nanoseconds.
var started = time.Now()

// since is time.Since in a variable, which an interpreted call reaches with an
// object less than through the package.
var since = time.Since

// writeTokens sets the headers that tell how many tokens a rate limit, which is all there is, leaves.
func writeTokens(h http.Header, tokens int64) {
	left := decimal(tokens)
	h["X-Ratelimit-Remaining"] = []string{left}
	h["Ratelimit"] = []string{`"rate";r=` + left + ";t=1"}
}

// What is told of fewer tokens than these is written beforehand.
const written = 1000

var writtenTokens, writtenRates [][]string

func init() {
	h := http.Header{}
	for tokens := int64(0); tokens < written; tokens++ {
		writeTokens(h, tokens)
		writtenTokens = append(writtenTokens, h["X-Ratelimit-Remaining"])
		writtenRates = append(writtenRates, h["Ratelimit"])
	}
}

// admit decides on a request, charges it to the limits and tells what is left of
// them. It answers a request that it does not admit.
func admit(w http.ResponseWriter, r *http.Request, g *gateway, c *caller) bool {
	if c.refusal != "" {
		refuseCaller(w, r, g, c, c.refusal)
		return false
	}
	if c.filtered && !matcher.Allows(c.who, r.Method, r.URL.Path, r.URL.RawPath) {
		refuseCaller(w, r, g, c, matcher.OperationForbidden)
		return false
	}
	if !c.limited {
		return true
	}
	if c.allowance == nil {
		refuseCaller(w, r, g, c, countersFull)
		return false
	}
	d := quota.Take(c.allowance, int64(since(started)))
	if d.Refusal == quota.Dropped {
		// The store has dropped a counter as unused. Nothing was decided or
		// changed yet, so begin anew, with new counters.
		return readmit(w, r, g, c)
	}
	tellLeft(w.Header(), c, &d)
	if d.Refusal == "" {
		return true
	}
	refuseUsedUp(w, r, g, c, &d)
	return false
}

// refuseUsedUp is refuseCaller for a limit that is used up.
func refuseUsedUp(w http.ResponseWriter, r *http.Request, g *gateway, c *caller, d *quota.Decision) {
	w.Header()["Retry-After"] = []string{strconv.FormatInt((d.RetryAfter+roundUp)/second, 10)}
	refuseCaller(w, r, g, c, d.Refusal)
}

// readmit is admit with the caller's counters fetched anew.
func readmit(w http.ResponseWriter, r *http.Request, g *gateway, c *caller) bool {
	return admit(w, r, g, renew(g.held, g.source, c))
}

// tellLeft sets the headers that tell a client what is left: the two that
// Traefik Hub sends, and those of draft-ietf-httpapi-ratelimit-headers-10.
func tellLeft(h http.Header, c *caller, d *quota.Decision) {
	h["Ratelimit-Policy"] = c.policy
	if !c.rated {
		h["Ratelimit"] = []string{tellQuota(h, d)}
		return
	}
	left := strconv.FormatInt(d.RateLeft, 10)
	h["X-Ratelimit-Remaining"] = []string{left}
	left = `"rate";r=` + left + ";t=" + strconv.FormatInt((d.RateReset+roundUp)/second, 10)
	if c.quotaed {
		left += ", " + tellQuota(h, d)
	}
	h["Ratelimit"] = []string{left}
}

// tellQuota is tellLeft for the quota. It returns its part of RateLimit.
func tellQuota(h http.Header, d *quota.Decision) string {
	left := strconv.FormatInt(d.QuotaLeft, 10)
	h["X-Quota-Remaining"] = []string{left}
	return `"quota";r=` + left + ";t=" + strconv.FormatInt((d.QuotaReset+roundUp)/second, 10)
}

// second and roundUp serve to round nanoseconds up to whole seconds.
const (
	second  = int64(time.Second)
	roundUp = second - 1
)

func decimal(n int64) string {
	return strconv.FormatInt(n, 10)
}

// seconds formats a time in nanoseconds as whole seconds, rounded up.
func seconds(ns int64) string {
	return decimal((ns + roundUp) / second)
}
