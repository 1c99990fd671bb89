package tollgate

import (
	"net/http"
	"strconv"
	"time"

	"github.com/tollgate-apim/tollgate/quota"
)

// started is the origin of the clock that limits are counted by.
var started = time.Now()

// spend charges a request to the limits of its caller and tells what is left.
// Where there is no room it refuses the request and returns false.
func spend(w http.ResponseWriter, r *http.Request, g *gateway, p *prepared) bool {
	now := int64(time.Since(started))
	allowance, _ := p.allowance.Load().(*quota.Allowance)
	d := quota.Take(allowance, now)
	if d.Dropped {
		d = retake(g, p, now)
	}
	if d.Refusal == "" {
		tellLeft(w.Header(), p, &d)
		return true
	}
	refuseLimit(w, r, g, p, &d)
	return false
}

// retake is Take with counters fetched anew: at the first request, and after the
// store has dropped one.
func retake(g *gateway, p *prepared, now int64) quota.Decision {
	for {
		allowance := newAllowance(g.source.counters, p, now)
		if allowance == nil {
			g.source.reportOnce("the store of counters is full: requests that need another counter are refused")
			return quota.Decision{Refusal: countersFull}
		}
		p.allowance.Store(allowance)
		if d := quota.Take(allowance, now); !d.Dropped {
			return d
		}
	}
}

// newAllowance fetches the counters of a caller, or returns nil if the store has
// no room.
func newAllowance(counters *quota.Store, p *prepared, now int64) *quota.Allowance {
	var rate, used *quota.Counter
	if p.rateLimit != nil {
		if rate = counters.Get(p.rateBucket, now); rate == nil {
			return nil
		}
	}
	if p.quota != nil {
		if used = counters.Get(p.quotaBucket, now); used == nil {
			return nil
		}
	}
	return quota.NewAllowance(p.rateLimit, rate, p.quota, used)
}

// refuseLimit refuses a request for which a limit has no room, or that cannot be
// counted.
func refuseLimit(w http.ResponseWriter, r *http.Request, g *gateway, p *prepared, d *quota.Decision) {
	if d.Refusal != countersFull {
		tellLeft(w.Header(), p, d)
		w.Header()["Retry-After"] = []string{seconds(d.RetryAfter)}
	}
	refuse(w, r, g, d.Refusal)
}

// tellLeft sets the headers that tell a client what is left: the two that
// Traefik Hub sends, and those of draft-ietf-httpapi-ratelimit-headers-10.
func tellLeft(h http.Header, p *prepared, d *quota.Decision) {
	h["Ratelimit-Policy"] = p.policy
	if p.rateLimit == nil {
		h["Ratelimit"] = []string{tellQuota(h, d)}
		return
	}
	left := strconv.FormatInt(d.RateLeft, 10)
	h["X-Ratelimit-Remaining"] = []string{left}
	left = `"rate";r=` + left + ";t=" + strconv.FormatInt((d.RateReset+roundUp)/second, 10)
	if p.quota != nil {
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
