package feed

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// An endpoint that holds its answer until there is a newer table (Prefer: wait,
// RFC 7240) is asked again at once. These numbers keep that from becoming a busy
// loop, and find out how long a proxy in between lets a request wait.
const (
	// leastWait is the shortest time that is worth being asked for.
	leastWait = 2 * time.Second
	// leastHeld is how long an answer with nothing new takes at least if the
	// endpoint has waited as it says.
	leastHeld = 500 * time.Millisecond
	// afterNews is the pause after a newer table that came within leastHeld.
	afterNews = 100 * time.Millisecond
	// shortFor is how long a wait stays shortened.
	shortFor = 5 * time.Minute
	// waitShare is by how much of itself the wait is drawn shorter, so that
	// gateways that got a table together do not all come back together.
	waitShare = 0.2
)

// endpoint is a sync endpoint as its feed knows it.
type endpoint struct {
	url string
	// shown is the URL without its user name and password.
	shown string
	// told is the failure that was last reported, with what changes from one
	// poll to the next taken out; empty while all is well.
	told string

	// wait is for how long it may be asked to hold its answer; 0 means not at
	// all. Until full, it may be asked for short at most.
	wait, short time.Duration
	full        time.Time
	// plain says that it did not hold its answer when it was last asked to.
	plain bool
	// hasty counts the answers in a row that came at once, and brought nothing,
	// although they said that the endpoint had waited.
	hasty int
	// refusals counts the polls in a row that asked it to wait and failed, or
	// had to ask once more for the table.
	refusals int
}

// longest returns for how long the endpoint may be asked to hold its answer now.
func (e *endpoint) longest(now time.Time) time.Duration {
	if now.Before(e.full) {
		return e.short
	}
	return e.wait
}

// mayWait says whether it is worth asking it to wait.
func (e *endpoint) mayWait(now time.Time) bool { return e.longest(now) >= leastWait }

// seconds returns for how many seconds to ask it to wait, drawn by a number from
// 0 to 1; 0 means not to ask for it.
func (e *endpoint) seconds(now time.Time, draw float64) int {
	if !e.mayWait(now) {
		return 0
	}
	s := int(float64(e.longest(now)) * (1 - waitShare*draw) / float64(time.Second))
	if s < 1 {
		return 1
	}
	return s
}

// shorten takes note that a request was cut while it was held, and says so.
func (e *endpoint) shorten(now time.Time) string {
	was := e.longest(now)
	e.short = was / 2
	e.full = now.Add(shortFor)
	how := "not asked to hold any"
	if e.short >= leastWait {
		how = "asked to hold them for " + e.short.String()
	}
	return fmt.Sprintf("no request can be held for %s; for the next %s it is %s", was, shortFor, how)
}

// pause returns the time until an endpoint that may be asked to wait is asked
// again, before jitter: after an answer that came within took, with or without a
// fresh table, to a request that asked it to wait or not. It takes note of
// whether the endpoint did, which is what it says in waited.
func (e *endpoint) pause(asked, waited, fresh bool, took, interval time.Duration) time.Duration {
	if !asked {
		if e.plain {
			return interval
		}
		if e.refusals > 1 {
			return doubled(firstRetry, e.refusals-1, interval)
		}
		return 0
	}
	e.plain = !waited
	if !waited {
		return interval
	}
	if took >= leastHeld || fresh {
		e.hasty = 0
		if took >= leastHeld || interval < afterNews {
			return 0
		}
		return afterNews
	}
	e.hasty++
	return doubled(firstRetry, e.hasty, interval)
}

// waited says whether an answer claims that the request was held as it preferred.
func waited(h http.Header) bool {
	for _, item := range strings.Split(strings.Join(h["Preference-Applied"], ","), ",") {
		name, _, _ := strings.Cut(item, "=")
		if strings.EqualFold(strings.TrimSpace(name), "wait") {
			return true
		}
	}
	return false
}

// withoutUser returns an endpoint as a log may show it.
func withoutUser(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		// Its text may hold a password where the parser saw none.
		return "(not a URL)"
	}
	u.User = nil
	return u.String()
}
