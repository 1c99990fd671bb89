package manifest

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/key"
	"github.com/tollgate-apim/tollgate/table"
)

// What the public schema allows, beside what package table does.
const (
	maxName     = 253
	maxPath     = 255
	maxRelease  = 100
	maxItems    = 100 // of every list but one
	maxMethods  = 10
	maxKeyValue = 4096

	defaultRatePeriod = "1s"
)

// semver is the pattern that semver.org recommends, with an optional "v".
var semver = regexp.MustCompile(`^v?(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)` +
	`(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?` +
	`(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?$`)

// method is a token of RFC 9110.
var method = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// checker checks one object. Any error leaves the object out.
type checker struct {
	*Source
	findings []finding.Finding
	failed   bool
}

func (c *checker) fail(rule finding.Rule, path, problem, allowed, fix string) {
	c.failed = true
	c.findings = append(c.findings, c.Finding(rule, finding.Error, path, problem, allowed, fix))
}

func (c *checker) warn(rule finding.Rule, path, problem, allowed, fix string) {
	c.findings = append(c.findings, c.Finding(rule, finding.Warning, path, problem, allowed, fix))
}

// unless runs a check, and forgets what it finds because of a misfit: about the
// same field, one inside or around it, or one that is missing where another is
// not known.
func (c *checker) unless(misfits []misfit, check func()) {
	// What has so many is no object that somebody is writing.
	if len(misfits) > maxItems {
		return
	}
	before := len(c.findings)
	check()
	if len(misfits) == 0 {
		return
	}
	c.findings = append(c.findings[:before], slices.DeleteFunc(slices.Clone(c.findings[before:]), func(f finding.Finding) bool {
		return slices.ContainsFunc(misfits, func(m misfit) bool {
			return inside(f.Field, m.path) || inside(m.path, f.Field) ||
				m.rule == finding.UnknownField && around(f.Field) == around(m.path) && !c.has(f.Field)
		})
	})...)
}

// most returns the findings, or as many as somebody may read.
func (c *checker) most() []finding.Finding {
	if len(c.findings) <= maxItems {
		return c.findings
	}
	rest := c.findings[maxItems:]
	severity := finding.Warning
	if errors, _ := finding.Count(rest); errors > 0 {
		severity = finding.Error
	}
	return append(c.findings[:maxItems:maxItems],
		c.Finding(rest[0].Rule, severity, "", fmt.Sprintf("has more to mend: %d findings are not shown", len(rest)), "", ""))
}

// inside reports whether path is that of outer, or of something in it.
func inside(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && (rest == "" || outer == "" || rest[0] == '.' || rest[0] == '[')
}

// around returns the path of what a field is in.
func around(path string) string { return path[:max(0, strings.LastIndexAny(path, ".["))] }

// required checks that path has a value, and how long it may be in characters.
func (c *checker) required(path, value string, most int) {
	if value == "" {
		c.fail(finding.Resource, path, "is missing", fmt.Sprintf("1 to %d characters", most), "")
		return
	}
	c.text(path, value, most)
}

// text checks a value that becomes part of a line: a header, a log, a label.
func (c *checker) text(path, value string, most int) {
	if n := utf8.RuneCountInString(value); n > most {
		c.fail(finding.Resource, path, fmt.Sprintf("has %d characters", n), fmt.Sprintf("at most %d", most), "")
	}
	if strings.ContainsFunc(value, unicode.IsControl) {
		c.fail(finding.Resource, path, "has a line break or another control character", "one line of text", "")
	}
}

// name checks the name of an object. It is not repeated: what is no name may be
// a key.
func (c *checker) name(path, value string) {
	if value == "" {
		c.fail(finding.Resource, path, "is missing", "a Kubernetes name", "")
	} else if len(validation.IsDNS1123Subdomain(value)) > 0 {
		c.fail(finding.Resource, path, "is not a Kubernetes name",
			fmt.Sprintf("lower-case letters, digits, '-' and '.', at most %d characters", maxName), "")
	}
}

func (c *checker) namespace(value string) {
	if len(validation.IsDNS1123Label(value)) > 0 {
		c.fail(finding.Resource, "metadata.namespace", "is not a Kubernetes namespace",
			"lower-case letters, digits and '-', at most 63 characters", "")
	}
}

func (c *checker) count(path string, n, most int) {
	if n > most {
		c.fail(finding.Resource, path, fmt.Sprintf("has %d items", n), fmt.Sprintf("at most %d", most), "")
	}
}

func (c *checker) nameRefs(path string, refs []NameRef) {
	c.count(path, len(refs), maxItems)
	seen := make(map[string]bool, len(refs))
	for i, ref := range refs {
		at := fmt.Sprintf("%s[%d].name", path, i)
		c.name(at, ref.Name)
		if seen[ref.Name] && ref.Name != "" {
			c.warn(finding.Duplicate, at, fmt.Sprintf("names %q again", ref.Name), "", "take one of them out")
		}
		seen[ref.Name] = true
	}
}

func (c *checker) selector(path string, s *metav1.LabelSelector) {
	if s == nil {
		return
	}
	if _, err := metav1.LabelSelectorAsSelector(s); err != nil {
		// Kubernetes' explanations of what a label is are long.
		reason, _, _ := strings.Cut(err.Error(), ": a valid label")
		c.fail(finding.Selector, path, "is not a label selector: "+reason,
			"operators In and NotIn with values, Exists and DoesNotExist without", "")
	}
}

func (c *checker) api(a *API) {
	c.text("spec.title", a.Spec.Title, maxName)
	c.openAPISpec(a.Spec.OpenAPISpec)
	c.nameRefs("spec.versions", a.Spec.Versions)
}

func (c *checker) apiVersion(v *APIVersion) {
	if r := v.Spec.Release; r == "" {
		c.fail(finding.Release, "spec.release", "is missing", "a semantic version such as v1.2.0", "")
	} else if len(r) > maxRelease || !semver.MatchString(r) {
		c.fail(finding.Release, "spec.release", "is not a semantic version", "such as v1.2.0, at most 100 characters", "")
	}
	c.openAPISpec(v.Spec.OpenAPISpec)
}

func (c *checker) openAPISpec(s *OpenAPISpec) {
	if s == nil {
		return
	}
	c.path("spec.openApiSpec.path", s.Path)
	c.count("spec.openApiSpec.operationSets", len(s.OperationSets), maxItems)
	seen := make(map[string]bool, len(s.OperationSets))
	for i, set := range s.OperationSets {
		at := fmt.Sprintf("spec.openApiSpec.operationSets[%d]", i)
		c.required(at+".name", set.Name, maxName)
		if seen[set.Name] && set.Name != "" {
			c.warn(finding.Duplicate, at+".name", fmt.Sprintf("names set %q again, so that its matchers add up", set.Name), "", "write one set")
		}
		seen[set.Name] = true
		if len(set.Matchers) == 0 {
			c.fail(finding.Resource, at+".matchers", "is missing", fmt.Sprintf("1 to %d matchers", maxItems), "")
		}
		c.count(at+".matchers", len(set.Matchers), maxItems)
		for j, m := range set.Matchers {
			c.matcher(fmt.Sprintf("%s.matchers[%d]", at, j), m)
		}
	}
}

func (c *checker) matcher(at string, m Matcher) {
	var criteria []string
	for _, f := range []struct{ name, value string }{{"path", m.Path}, {"pathPrefix", m.PathPrefix}, {"pathRegex", m.PathRegex}} {
		if f.value != "" {
			criteria = append(criteria, f.name)
		}
	}
	if len(criteria) > 1 {
		c.fail(finding.Resource, at, "has "+strings.Join(criteria, " and "), "at most one of path, pathPrefix and pathRegex", "write several matchers")
	}
	if len(criteria) == 0 && len(m.Methods) == 0 {
		c.fail(finding.Resource, at, "is empty", "path, pathPrefix, pathRegex or methods", "")
	}
	c.path(at+".path", m.Path)
	c.path(at+".pathPrefix", m.PathPrefix)
	if _, err := regexp.Compile(m.PathRegex); err != nil {
		c.fail(finding.Regex, at+".pathRegex", strings.TrimPrefix(err.Error(), "error parsing regexp: "), "a Go regular expression", "")
	}
	c.count(at+".methods", len(m.Methods), maxMethods)
	for i, name := range m.Methods {
		if !method.MatchString(name) {
			c.fail(finding.Resource, fmt.Sprintf("%s.methods[%d]", at, i), "is not an HTTP method", "such as GET", "")
		}
	}
}

// path checks a path, or "" for none.
func (c *checker) path(at, value string) {
	switch {
	case value == "":
	case len(value) > maxPath:
		c.fail(finding.Resource, at, fmt.Sprintf("has %d characters", len(value)), fmt.Sprintf("at most %d", maxPath), "")
	case value[0] != '/':
		c.fail(finding.Resource, at, fmt.Sprintf("%q does not begin with a slash", value), "", fmt.Sprintf("write %q", "/"+value))
	case slices.Contains(strings.Split(value, "/"), ".."):
		c.fail(finding.Resource, at, fmt.Sprintf("%q has a segment \"..\"", value), "a clean path", "")
	}
}

func (c *checker) apiBundle(b *APIBundle) {
	c.text("spec.title", b.Spec.Title, maxName)
	c.selector("spec.apiSelector", b.Spec.APISelector)
	c.nameRefs("spec.apis", b.Spec.APIs)
}

func (c *checker) apiPlan(p *APIPlan) {
	c.required("spec.title", p.Spec.Title, maxName)
	if l := p.Spec.RateLimit; l != nil {
		if l.Period == "" {
			l.Period = defaultRatePeriod
		}
		c.limit("spec.rateLimit", l, table.MaxRateLimit, table.MaxRatePeriod)
		if l.Limit != nil && *l.Limit == 0 {
			c.warn(finding.ZeroLimit, "spec.rateLimit.limit", "is 0, which means no rate limit", "", "take the rate limit out, or write a limit")
		}
	}
	if l := p.Spec.Quota; l != nil {
		c.limit("spec.quota", l, table.MaxQuotaLimit, table.MaxQuotaPeriod)
		if l.Limit != nil && *l.Limit == 0 {
			c.warn(finding.ZeroLimit, "spec.quota.limit", "is 0, which denies every request", "", "take the quota out, or write a limit")
		}
	}
	if _, err := p.Burst(); err != nil {
		c.fail(finding.Resource, "metadata.annotations."+BurstAnnotation, "is not a number of requests",
			fmt.Sprintf("a whole number from 1 to %d, in quotes", table.MaxRateLimit), "")
	}
}

// Burst returns what the plan's annotation says, or 0 if there is none.
func (p *APIPlan) Burst() (int64, error) {
	text, ok := p.Annotations[BurstAnnotation]
	if !ok {
		return 0, nil
	}
	burst, err := strconv.ParseInt(text, 10, 64)
	if err != nil || burst < 1 || burst > table.MaxRateLimit {
		return 0, fmt.Errorf("annotation %s: must be 1 to %d", BurstAnnotation, table.MaxRateLimit)
	}
	return burst, nil
}

func (c *checker) limit(at string, l *Limit, most int64, longest time.Duration) {
	switch {
	case l.Limit == nil:
		c.fail(finding.Resource, at+".limit", "is missing", fmt.Sprintf("0 to %d", most), "")
	case *l.Limit < 0 || *l.Limit > most:
		c.fail(finding.Resource, at+".limit", fmt.Sprintf("is %d", *l.Limit), fmt.Sprintf("0 to %d", most), "")
	}
	switch l.Bucket {
	case "", table.BucketSubscription, table.BucketApplication, table.BucketApplicationAPI:
	default:
		c.fail(finding.Resource, at+".bucket", fmt.Sprintf("is %q", clip(l.Bucket)),
			strings.Join([]string{table.BucketSubscription, table.BucketApplication, table.BucketApplicationAPI}, ", "), "")
	}
	allowed := fmt.Sprintf("%s to %s, such as 1m30s", table.MinPeriod, strings.TrimSuffix(longest.String(), "0m0s"))
	if l.Period == "" {
		c.fail(finding.Period, at+".period", "is missing", allowed, "")
		return
	}
	d, err := time.ParseDuration(l.Period)
	switch {
	case err != nil:
		fix := ""
		if days, ok := strings.CutSuffix(l.Period, "d"); ok {
			if n, err := strconv.Atoi(days); err == nil && n > 0 && n < 1000 && time.Duration(24*n)*time.Hour <= longest {
				fix = fmt.Sprintf("write %dh", 24*n)
			}
		}
		c.fail(finding.Period, at+".period", fmt.Sprintf("%q is not a duration", clip(l.Period)), allowed, fix)
	case d < table.MinPeriod || d > longest:
		c.fail(finding.Period, at+".period", fmt.Sprintf("is %s", clip(l.Period)), allowed, "")
	}
}

// clip shortens what a message repeats.
func clip(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return s
}

func (c *checker) managedApplication(a *ManagedApplication) {
	c.required("spec.appId", a.Spec.AppID, maxName)
	c.required("spec.owner", a.Spec.Owner, maxName)
	c.count("spec.apiKeys", len(a.Spec.APIKeys), maxItems)
	for i, k := range a.Spec.APIKeys {
		at := fmt.Sprintf("spec.apiKeys[%d]", i)
		c.text(at+".title", k.Title, maxName)
		switch {
		case k.SecretName != "" && k.Value != "":
			c.fail(finding.Resource, at, "has both secretName and value", "one of them", "take one of them out")
		case k.SecretName != "":
			c.name(at+".secretName", k.SecretName)
		case k.Value == "":
			c.fail(finding.Resource, at, "has neither secretName nor value", "one of them", "")
		case len(k.Value) > maxKeyValue:
			c.fail(finding.Resource, at+".value", fmt.Sprintf("has %d characters", len(k.Value)), fmt.Sprintf("at most %d", maxKeyValue), "")
		}
	}
}

// plaintext reports the keys of an application that is left out: whoever mends
// what it is left out for should not have to come back.
func (c *checker) plaintext(a *ManagedApplication) {
	for i, k := range a.Spec.APIKeys[:min(len(a.Spec.APIKeys), maxItems)] {
		at := fmt.Sprintf("spec.apiKeys[%d].value", i)
		told := slices.ContainsFunc(c.findings, func(f finding.Finding) bool { return f.Field == at })
		if _, err := key.ParseDigest(k.Value); err != nil && k.Value != "" && !told {
			c.findings = append(c.findings, c.PlaintextKey(at))
		}
	}
}

func (c *checker) managedSubscription(s *ManagedSubscription) {
	c.name("spec.apiPlan.name", s.Spec.APIPlan.Name)
	c.nameRefs("spec.managedApplications", s.Spec.ManagedApplications)
	c.selector("spec.managedApplicationSelector", s.Spec.ManagedApplicationSelector)
	c.count("spec.applications", len(s.Spec.Applications), maxItems)
	for i, a := range s.Spec.Applications {
		c.required(fmt.Sprintf("spec.applications[%d].appId", i), a.AppID, maxName)
	}
	c.nameRefs("spec.apis", s.Spec.APIs)
	c.selector("spec.apiSelector", s.Spec.APISelector)
	c.nameRefs("spec.apiBundles", s.Spec.APIBundles)
	c.operationFilter(s.Spec.OperationFilter)
	c.weight(s.Spec.Weight)
}

func (c *checker) weight(w int64) {
	if w < 0 {
		c.fail(finding.Resource, "spec.weight", fmt.Sprintf("is %d", w), "0 or more", "")
	}
}

func (c *checker) operationFilter(f *OperationFilter) {
	if f == nil {
		return
	}
	c.count("spec.operationFilter.include", len(f.Include), maxItems)
	seen := make(map[string]bool, len(f.Include))
	for i, set := range f.Include {
		at := fmt.Sprintf("spec.operationFilter.include[%d]", i)
		c.required(at, set, maxName)
		if seen[set] {
			c.warn(finding.Duplicate, at, fmt.Sprintf("names %q again", clip(set)), "", "take one of them out")
		}
		seen[set] = true
	}
}

func (c *checker) apiCatalogItem(i *APICatalogItem) {
	c.audience(i.Spec.Groups, i.Spec.Everyone)
	c.nameRefs("spec.apis", i.Spec.APIs)
	c.selector("spec.apiSelector", i.Spec.APISelector)
	c.nameRefs("spec.apiBundles", i.Spec.APIBundles)
	c.operationFilter(i.Spec.OperationFilter)
	if i.Spec.APIPlan != nil {
		c.name("spec.apiPlan.name", i.Spec.APIPlan.Name)
	}
}

// audience checks who an object is for.
func (c *checker) audience(groups []string, everyone bool) {
	if everyone && len(groups) > 0 {
		c.fail(finding.Resource, "spec.everyone", "is true beside groups", "one of them", "take one of them out")
	}
	for i, g := range groups {
		c.required(fmt.Sprintf("spec.groups[%d]", i), g, maxName)
	}
}

func (c *checker) apiAccess(a *APIAccess) {
	c.audience(a.Spec.Groups, a.Spec.Everyone)
	c.nameRefs("spec.apis", a.Spec.APIs)
	c.selector("spec.apiSelector", a.Spec.APISelector)
	c.operationFilter(a.Spec.OperationFilter)
	c.nameRefs("spec.apiBundles", a.Spec.APIBundles)
	if a.Spec.APIPlan != nil {
		c.name("spec.apiPlan.name", a.Spec.APIPlan.Name)
	}
	c.weight(a.Spec.Weight)
	c.noMore(a.Spec.successor())
}

// successor says what to write instead of an APIAccess.
func (s *APIAccessSpec) successor() string {
	var parts []string
	add := func(field string, names []string) {
		if len(names) > maxSaid {
			names = append(slices.Clone(names[:maxSaid]), "…")
		}
		if len(names) > 0 {
			parts = append(parts, field+" ["+strings.Join(names, ", ")+"]")
		}
	}
	names := func(refs []NameRef) (out []string) {
		for _, r := range refs {
			out = append(out, r.Name)
		}
		return out
	}
	add("apis", names(s.APIs))
	add("apiBundles", names(s.APIBundles))
	if s.APISelector != nil {
		parts = append(parts, "its apiSelector")
	}
	if f := s.OperationFilter; f != nil {
		parts = append(parts, "operationFilter {include: ["+clip(strings.Join(f.Include, ", "))+"]}")
	}
	if s.Everyone {
		parts = append(parts, "managedApplicationSelector {}")
	} else {
		parts = append(parts, "the managedApplications of its groups")
	}
	return "a ManagedSubscription with " + strings.Join(parts, ", ") + ", or an APICatalogItem if this is only to be found,"
}

// maxSaid is how many names a message lists.
const maxSaid = 5

func (c *checker) apiRateLimit(r *APIRateLimit) {
	c.audience(r.Spec.Groups, r.Spec.Everyone)
	c.nameRefs("spec.apis", r.Spec.APIs)
	c.selector("spec.apiSelector", r.Spec.APISelector)
	if r.Spec.Period == "" {
		r.Spec.Period = defaultRatePeriod
	}
	c.limit("spec", &Limit{Limit: r.Spec.Limit, Period: r.Spec.Period}, table.MaxRateLimit, table.MaxRatePeriod)
	if r.Spec.Limit != nil && *r.Spec.Limit >= 0 {
		c.noMore(fmt.Sprintf("an APIPlan with rateLimit {limit: %d, period: %s}, named by ManagedSubscriptions,", *r.Spec.Limit, clip(r.Spec.Period)))
	}
}

// noMore reports an object of a kind that has a successor.
func (c *checker) noMore(successor string) {
	c.warn(finding.Deprecated, "", "is of a kind that is no more, so it grants and limits nothing", "",
		fmt.Sprintf("write %s instead: \"tollgate migrate %s\" does", successor, c.origin.file))
}
