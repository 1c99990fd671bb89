package tollgate

import (
	"net/http"
	"strconv"
	"time"

	"github.com/tollgate-apim/tollgate/quota"
)

// started is the origin of the clock that limits are counted by, in nanoseconds.
var started = time.Now()

// spend charges a request to the limits of its caller and tells what is left.
// Where there is no room it refuses the request and returns false.
func spend(w http.ResponseWriter, r *http.Request, g *gateway, v *view, c *caller) bool {
	if c.allowance == nil {
		refuse(w, r, g, countersFull)
		return false
	}
	d := quota.Take(c.allowance, int64(time.Since(started)))
	if d.Refusal != "" {
		refuseLimit(w, r, g, v, c, &d)
		return false
	}
	tellLeft(w.Header(), c, &d)
	return true
}

// refuseLimit refuses a request for which a limit has no room.
func refuseLimit(w http.ResponseWriter, r *http.Request, g *gateway, v *view, c *caller, d *quota.Decision) {
	if d.Refusal == quota.Dropped {
		// The store has dropped a counter as unused. Nothing was decided or
		// changed yet, so begin anew, with new counters.
		forget(v, c)
		g.ServeHTTP(w, r)
		return
	}
	tellLeft(w.Header(), c, d)
	w.Header()["Retry-After"] = []string{seconds(d.RetryAfter)}
	refuse(w, r, g, d.Refusal)
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
