// Package table is the contract between a control plane and its gateways: the
// wire types of a table, what makes one valid, and how large one may be.
// docs/sync.md describes the same contract in prose.
//
// A table holds winners only. Which subscription serves which application was
// settled when it was compiled, so that a gateway decides with a handful of
// look-ups and loads a table with one json.Unmarshal.
//
// A table comes as one document, or, if it is large, as an index and the parts
// that this lists. Holders, FindApplication and FindSubscription read either.
package table

import "time"

// Path is where a sync endpoint serves the table, relative to its base URL.
const Path = "/v1/table"

// DefaultMaxBytes is the size, in bytes of JSON after decompression, above
// which a gateway refuses a table unless it is configured otherwise.
const DefaultMaxBytes = 1 << 30

// Table is everything that a gateway knows. Once decoded it is never changed,
// so any number of goroutines may read it.
//
// Applications, subscriptions, plans and APIs are named namespace/name.
//
// A table has either Subscriptions, Applications and Keys, or Parts: then those
// rows are in the parts, and Assemble puts them in reach.
type Table struct {
	// Revision only ever grows; the first is 1 or more.
	Revision int64 `json:"revision"`
	// IssuedAt is when the control plane compiled the table.
	IssuedAt time.Time `json:"issuedAt"`

	Plans map[string]Plan `json:"plans"`
	APIs  map[string]API  `json:"apis"`

	// Parts are the SHA-256 of each part, in lower-case hex. There are a power
	// of two of them, MaxParts at most.
	Parts []string `json:"parts,omitempty"`

	Subscriptions map[string]Subscription `json:"subscriptions,omitzero"`
	Applications  map[string]Application  `json:"applications,omitzero"`

	// Keys maps a digest (128 lower-case hex digits, see package hashing) to
	// the applications that hold the key.
	Keys map[string][]Holder `json:"keys,omitzero"`

	// Loaded are the parts in the order of Parts. Assemble sets them.
	Loaded []*Part `json:"-"`
}

// Plan says how much a subscription may use. Both limits are optional.
type Plan struct {
	Title     string     `json:"title,omitempty"`
	RateLimit *RateLimit `json:"rateLimit,omitempty"`
	Quota     *Quota     `json:"quota,omitempty"`
}

// RateLimit is a token bucket, refilled at Limit tokens each Period.
type RateLimit struct {
	// Limit of 0 means no rate limit.
	Limit int64 `json:"limit"`
	// Period is a Go duration such as "1s", from MinPeriod to MaxRatePeriod.
	Period string `json:"period"`
	// Burst is how many tokens the bucket holds; 0 means max(1, Limit).
	Burst int64 `json:"burst,omitempty"`
	// Bucket is one of the Bucket constants; empty means BucketSubscription.
	Bucket string `json:"bucket,omitempty"`
}

// Quota admits at most Limit requests in any window of Period.
type Quota struct {
	// Limit of 0 denies every request.
	Limit int64 `json:"limit"`
	// Period is a Go duration such as "720h", from MinPeriod to MaxQuotaPeriod.
	Period string `json:"period"`
	// Bucket is one of the Bucket constants; empty means BucketSubscription.
	Bucket string `json:"bucket,omitempty"`
}

// Which requests share a counter.
const (
	// BucketSubscription: all applications and APIs of the subscription,
	// whichever plan it names.
	BucketSubscription = "subscription"
	// BucketApplication: one for each application under a plan, shared by all
	// APIs that it calls under that plan.
	BucketApplication = "application"
	// BucketApplicationAPI: one for each application and API under a plan.
	BucketApplicationAPI = "application-api"
)

// API names sets of operations, which subscriptions refer to.
type API struct {
	OperationSets map[string][]Matcher `json:"operationSets,omitempty"`
}

// Matcher describes operations: its path criterion, of which it has one at
// most, and its methods must both match. The matchers of a set are alternatives.
type Matcher struct {
	// Methods are compared in upper case; none means any.
	Methods []string `json:"methods,omitempty"`
	// Path is matched as a whole.
	Path string `json:"path,omitempty"`
	// PathPrefix matches whole segments: "/weather" matches "/weather" and
	// "/weather/x", not "/weatherman".
	PathPrefix string `json:"pathPrefix,omitempty"`
	// PathRegex is an unanchored Go regular expression.
	PathRegex string `json:"pathRegex,omitempty"`
}

// Subscription is the right to call under a plan.
type Subscription struct {
	Plan string `json:"plan"`
	// OperationFilter is nil where all operations are allowed.
	OperationFilter *OperationFilter `json:"operationFilter,omitempty"`
}

// OperationFilter allows the operations of the named sets, and no others: an
// empty Include allows none.
type OperationFilter struct {
	Include []string `json:"include"`
}

// Application is a consumer of APIs.
type Application struct {
	AppID string `json:"appId"`
	Owner string `json:"owner,omitempty"`
	// Grants maps an API to the subscription that lets the application call it.
	Grants map[string]string `json:"grants,omitempty"`
}

// Holder is an application that a key belongs to.
type Holder struct {
	Application string `json:"application"`
	// Title tells an application's keys apart in metrics and upstream.
	Title string `json:"title,omitempty"`
	// Suspended disables the key for this application.
	Suspended bool `json:"suspended,omitempty"`
}
