// Package explain tells how a gateway decides on a request, and why. It decides
// by the gateway's own code, packages matcher and quota, on the table that the
// gateway has or would get; what compiling the table settled, such as which
// subscription lost to which, it takes from package compile.
//
// An explanation never contains a key or a whole digest. Explaining consumes
// nothing.
package explain

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/tollgate-apim/tollgate/controlplane/compile"
	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/key"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
	"github.com/tollgate-apim/tollgate/matcher"
	"github.com/tollgate-apim/tollgate/quota"
	"github.com/tollgate-apim/tollgate/table"
)

// MaxKeyBytes is the length of the longest key that a gateway looks at.
const MaxKeyBytes = 512

// keyMissing is the gateway's reason for a request without a key.
const keyMissing = "key_missing"

// World is what is decided by.
type World struct {
	Table *table.Table
	// Loaded and Compiled are what the table was made of. They are nil where it
	// came from a control plane: a table has winners only.
	Loaded   *manifest.Loaded
	Compiled *compile.Result
}

// Question is a request to be explained. Without Key and Application it is one
// without a key.
type Question struct {
	API    string // namespace/name
	Method string
	Target string // the path as it stands in a request, encoded
	Key    string
	// Application asks as somebody who holds a key of this application, and of
	// no other, whichever that is: namespace/name or an App ID.
	Application string
}

// Explanation is a decision with all that led to it, in the order in which a
// gateway goes.
type Explanation struct {
	API    string `json:"api"`
	Method string `json:"method"`
	// Path is the decoded path, and RawPath the encoded one where it is unusual.
	Path    string `json:"path"`
	RawPath string `json:"rawPath,omitempty"`
	// Revision is that of the table, or 0 where it was compiled for this.
	Revision int64 `json:"revision,omitempty"`

	Key Key `json:"key"`
	// Holders are the applications that hold the key, in the table's order.
	Holders []Holder `json:"holders,omitempty"`
	// Readings are the ways in which servers read the path, all of which a filter
	// must allow. There are none where only a matcher of any path will do.
	Readings []string `json:"readings,omitempty"`
	// Limits are those of the grant that the request is accounted to. They are
	// nil where it is refused before they are looked at.
	Limits *Limits `json:"limits,omitempty"`

	Answer Answer `json:"answer"`

	Notes []string `json:"notes,omitempty"`
	// Findings are those about what a refusal comes from.
	Findings []finding.Finding `json:"findings,omitempty"`
}

// Key is what is said of the key.
type Key struct {
	// Digest is how the digest begins; empty if there was no key, or none that
	// is worth a digest.
	Digest string `json:"digest,omitempty"`
	Known  bool   `json:"known"`
	// Application is whom the question asks for in place of a key.
	Application string `json:"application,omitempty"`
}

// Holder is an application that holds the key.
type Holder struct {
	Application string `json:"application"`
	AppID       string `json:"appId,omitempty"`
	KeyTitle    string `json:"keyTitle,omitempty"`
	// Suspended keys do not count.
	Suspended bool `json:"suspended,omitempty"`
	// Candidates are the subscriptions that select the application and the API,
	// in the order of precedence: the first wins. They are nil where there are
	// none, or where only the table is known.
	Candidates []Candidate `json:"candidates,omitempty"`
	// Subscription and Plan are those that let the application call the API.
	Subscription string `json:"subscription,omitempty"`
	Plan         string `json:"plan,omitempty"`
	// Operations are what the subscription's filter comes to.
	Operations *Operations `json:"operations,omitempty"`
	// Refusal is why the request is refused on account of this application, as
	// a reason code, and Why the same in words.
	Refusal string `json:"refusal,omitempty"`
	Why     string `json:"why,omitempty"`
}

// Candidate is a subscription that selects both the application and the API.
type Candidate struct {
	Subscription string `json:"subscription"`
	Weight       int64  `json:"weight"`
	Plan         string `json:"plan"`
	Wins         bool   `json:"wins"`
	Why          string `json:"why"`
}

// Answer is what a client gets.
type Answer struct {
	Admitted bool `json:"admitted"`
	// Status and Reason are those of a refusal.
	Status int    `json:"status,omitempty"`
	Reason string `json:"reason,omitempty"`
	Why    string `json:"why"`
	// Application is the one that an admitted request is accounted to, or the
	// first on whose account it is refused; Subscription is what admits it.
	Application  string `json:"application,omitempty"`
	Subscription string `json:"subscription,omitempty"`
}

// statuses are those of the reasons.
var statuses = map[string]int{
	keyMissing:                  http.StatusUnauthorized,
	matcher.KeyInvalid:          http.StatusUnauthorized,
	matcher.SubscriptionMissing: http.StatusForbidden,
	matcher.OperationForbidden:  http.StatusForbidden,
	quota.RateLimited:           http.StatusTooManyRequests,
	quota.QuotaExceeded:         http.StatusTooManyRequests,
}

var (
	namespacedName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)
	method         = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
)

// Explain answers a question. It fails where a gateway could not be asked it:
// the error tells everything that is wrong.
func Explain(w World, q Question) (*Explanation, error) {
	target, err := check(q)
	if err != nil {
		return nil, err
	}
	x := &explainer{World: w, out: &Explanation{
		API: q.API, Method: q.Method, Path: target.Path, RawPath: target.RawPath, Revision: w.Table.Revision,
	}}
	if target.RawQuery != "" {
		x.note("the query plays no part in the decision")
	}
	digest := ""
	if q.Application != "" {
		name, err := application(w, q.Application)
		if err != nil {
			return nil, err
		}
		x.out.Key = Key{Known: true, Application: name}
		x.noteKeyless(name)
		// A table in which somebody holds a key of this application alone.
		digest = "as " + name
		alone := *w.Table
		alone.Keys = map[string][]table.Holder{digest: {{Application: name}}}
		x.Table = &alone
	} else {
		if q.Key == "" || len(q.Key) > MaxKeyBytes {
			x.noteUnknownAPI()
			x.noKey(q.Key)
			return x.out, nil
		}
		digest = key.Digest(q.Key)
		x.out.Key = Key{Digest: digest[:8] + "…", Known: len(w.Table.Keys[digest]) > 0}
	}
	x.notes()
	x.decide(digest)
	x.findings()
	return x.out, nil
}

// check parses the target as a server does, and tells what is wrong with q.
func check(q Question) (*url.URL, error) {
	var problems []error
	if !namespacedName.MatchString(q.API) {
		problems = append(problems, fmt.Errorf("--api: %q, must be the namespace/name of an API, such as apps/weather-api", q.API))
	}
	if !method.MatchString(q.Method) {
		problems = append(problems, fmt.Errorf("METHOD: %q, must be an HTTP method, such as GET", q.Method))
	}
	target, err := url.ParseRequestURI(q.Target)
	if err != nil || strings.ContainsAny(q.Target, " \t\r\n") {
		problems = append(problems, fmt.Errorf("PATH: %q, must be a path as it stands in a request, such as /weather/today: servers answer anything else with 400", q.Target))
	}
	if q.Key != "" && q.Application != "" {
		problems = append(problems, errors.New("a key and an application were given, must be one of them"))
	}
	return target, errors.Join(problems...)
}

// application returns the name of the application that a question asks for.
func application(w World, id string) (string, error) {
	if _, ok := w.Table.Applications[id]; ok {
		return id, nil
	}
	var names []string
	for name, row := range w.Table.Applications {
		if row.AppID == id {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	switch {
	case len(names) == 1:
		return names[0], nil
	case len(names) > 1:
		return "", fmt.Errorf("--app: %q is the App ID of several applications, must be one of %s", id, some(names))
	}
	return "", fmt.Errorf("--app: %q is neither the namespace/name nor the App ID of an application in force%s", id, outOfForce(w, id))
}

// outOfForce tells why an application of the manifests is not in the table.
func outOfForce(w World, name string) string {
	if w.Loaded == nil {
		return ""
	}
	for _, f := range slices.Concat(w.Loaded.Findings, w.Compiled.Findings) {
		if f.Object.Kind == "ManagedApplication" && f.Object.Namespace+"/"+f.Object.Name == name {
			return ": " + f.String()
		}
	}
	return ""
}

// some joins names, the first few of them.
func some(names []string) string {
	const most = 5
	if more := len(names) - most; more > 0 {
		names = append(slices.Clone(names[:most]), fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}

// explainer is at work on one explanation.
type explainer struct {
	World
	out *Explanation
}

func (x *explainer) note(format string, args ...any) {
	x.out.Notes = append(x.out.Notes, fmt.Sprintf(format, args...))
}

// noKey refuses what a gateway refuses before it looks for the key.
func (x *explainer) noKey(presented string) {
	if presented == "" {
		x.refuse(keyMissing, "the request has no key")
		return
	}
	x.refuse(matcher.KeyInvalid, fmt.Sprintf("the key has more than %d bytes", MaxKeyBytes))
}

func (x *explainer) refuse(reason, why string) {
	x.out.Answer = Answer{Status: statuses[reason], Reason: reason, Why: why}
}

// noteKeyless says so if nobody can call as an application.
func (x *explainer) noteKeyless(name string) {
	for _, holders := range x.Table.Keys {
		for _, h := range holders {
			if h.Application == name && !h.Suspended {
				return
			}
		}
	}
	x.note("application %s has no key that is in force, so nobody can call as it", name)
}

// notes says what the reader should know about the world.
func (x *explainer) notes() {
	if x.Compiled == nil {
		x.note("a table has winners only: which other subscriptions were candidates is not known here")
	}
	if x.Loaded != nil && len(x.Loaded.Broken) > 0 {
		x.note("%v, so that a running control plane keeps the change out and its table may differ", x.Loaded.NotWhole())
	}
	x.noteUnknownAPI()
}

// noteUnknownAPI says so if there is no such API.
func (x *explainer) noteUnknownAPI() {
	if _, ok := x.Table.APIs[x.out.API]; ok {
		return
	}
	names := slices.Sorted(maps.Keys(x.Table.APIs))
	if len(names) == 0 {
		x.note("there is no API %s, nor any other", x.out.API)
		return
	}
	x.note("there is no API %s; there are: %s", x.out.API, some(names))
}

// decide takes the decision on the caller with the key of a digest, and explains
// it application by application.
func (x *explainer) decide(digest string) {
	out := x.out
	out.Readings = matcher.Readings(out.Path, out.RawPath)
	for _, h := range x.Table.Keys[digest] {
		out.Holders = append(out.Holders, x.holder(h))
	}
	c, _ := matcher.Resolve(x.Table, out.API, digest, matcher.Filters{})
	switch {
	case c.Refusal == matcher.KeyInvalid && len(out.Holders) > 0:
		x.refuse(matcher.KeyInvalid, "the key is suspended wherever it is held")
	case c.Refusal == matcher.KeyInvalid:
		x.refuse(matcher.KeyInvalid, "no application holds the key with this digest")
	case c.Refusal != "":
		x.refuseHolder(c.Refusal)
	case c.Filtered && !matcher.Allows(c, out.Method, out.Path, out.RawPath):
		x.refuseHolder(matcher.OperationForbidden)
	default:
		x.spend(c.Grant)
	}
}

// refuseHolder refuses the request on account of the first application that
// stands against it.
func (x *explainer) refuseHolder(reason string) {
	for _, h := range x.out.Holders {
		if h.Refusal == reason {
			x.refuse(reason, h.Why)
			x.out.Answer.Application = h.Application
			return
		}
	}
	x.refuse(reason, "")
}

// holder explains what the key is good for at one application that holds it.
func (x *explainer) holder(row table.Holder) Holder {
	out := Holder{
		Application: row.Application, AppID: x.Table.Applications[row.Application].AppID,
		KeyTitle: row.Title, Suspended: row.Suspended,
	}
	if row.Suspended {
		return out
	}
	out.Candidates = x.candidates(row.Application)
	const digest = "alone"
	alone := *x.Table
	alone.Keys = map[string][]table.Holder{digest: {row}}
	c, problems := matcher.Resolve(&alone, x.out.API, digest, matcher.Filters{})
	if c.Refusal != "" {
		out.Refusal, out.Why = c.Refusal, x.whyNoGrant(row.Application, out.Candidates, problems)
		return out
	}
	out.Subscription, out.Plan = c.Grant.Subscription, c.Grant.Plan
	out.Operations = x.operations(c)
	if !out.Operations.Allowed {
		out.Refusal, out.Why = matcher.OperationForbidden, out.Operations.Why
	}
	return out
}
