package explain_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/tollgate-apim/tollgate/controlplane/key"
)

// generator writes random manifests, and asks random questions about them. Names,
// keys and paths are few, so that they meet often.
type generator struct {
	*rand.Rand
	out strings.Builder
}

func newGenerator(seed, n uint64) *generator {
	return &generator{Rand: rand.New(rand.NewPCG(seed, n))}
}

// chance is true once in n times.
func (g *generator) chance(n int) bool { return g.IntN(n) == 0 }

func (g *generator) pick(from ...string) string { return from[g.IntN(len(from))] }

// list returns n random ones of from, in flow style, each in a mapping under
// field unless that is empty.
func (g *generator) list(n int, field string, from []string) string {
	var items []string
	for range n {
		item := g.pick(from...)
		if slices.Contains(items, item) {
			continue
		}
		items = append(items, item)
	}
	if field != "" {
		for i := range items {
			items[i] = "{" + field + ": " + items[i] + "}"
		}
	}
	return "[" + strings.Join(items, ", ") + "]"
}

func (g *generator) object(kind, namespace, name, labels, spec string) {
	fmt.Fprintf(&g.out, "---\napiVersion: hub.traefik.io/v1alpha1\nkind: %s\nmetadata: {name: %s, namespace: %s, labels: {%s}}\nspec: {%s}\n",
		kind, name, namespace, labels, spec)
}

var (
	namespaces = []string{"apps", "shop"}
	apiNames   = []string{"weather", "orders", "news"}
	setNames   = []string{"read", "write", "admin", "any"}
	planNames  = []string{"free", "gold", "blocked", "open"}
	appNames   = []string{"ann", "bob", "cat", "dan", "eve"}
	matchers   = []string{
		"{path: /weather}", "{path: /weather/}", "{path: /orders, methods: [POST]}", "{path: /}",
		"{pathPrefix: /weather}", "{pathPrefix: /weather/}", "{pathPrefix: /weather/x, methods: [GET, head]}", "{pathPrefix: /}",
		"{pathRegex: '^/weather/[^/]+$'}", "{pathRegex: orders}", "{pathRegex: '\\.', methods: [put]}",
		"{methods: [GET]}", "{methods: [get, POST]}",
	}
	segments = []string{
		"weather", "weather", "weather", "x", "orders", "admin", "weatherman", "", "", "..", ".", "..;", "..;v=1", "x;v=1",
		"%2e%2e", "%2E", "%2F", "a%2Fb", "weather%2fx", "%5c..%5c", `\`, "%00", "%252e%252e", "%252F", "caf%C3%A9", "a%20b", "%3F", "%23", "100%25", "...", ".x", "%zz", "a b",
	}
	methods = []string{"GET", "GET", "GET", "get", "POST", "PUT", "HEAD", "DELETE", "PROPFIND"}
)

// keys are what manifests have digests of, and nobody is a key that none has.
// The last two are the longest that counts, and one that is too long.
var keys = []string{"key-0", "key-1", "key-2", "key-3", "key-4", "key-5", strings.Repeat("k", 512), strings.Repeat("k", 513)}

const nobody = "key-of-nobody"

func selector(g *generator) string {
	return g.pick("{}", "{matchLabels: {tier: a}}", "{matchExpressions: [{key: tier, operator: NotIn, values: [a]}]}",
		"{matchExpressions: [{key: tier, operator: Exists}]}", "{matchExpressions: [{key: tier, operator: In, values: [b, c]}]}",
		"{matchExpressions: [{key: tier, operator: DoesNotExist}]}")
}

func (g *generator) labels() string { return g.pick("", "", "tier: a", "tier: b", "tier: c") }

func (g *generator) operationSets() string {
	var sets []string
	for _, name := range setNames {
		if g.chance(2) {
			sets = append(sets, "{name: "+name+", matchers: "+g.list(1+g.IntN(3), "", matchers)+"}")
		}
	}
	return "openApiSpec: {path: /openapi.json, operationSets: [" + strings.Join(sets, ", ") + "]}"
}

// manifests returns the manifests of a whole world.
func (g *generator) manifests() string {
	g.out.Reset()
	for _, ns := range namespaces[:1+g.IntN(2)] {
		for _, api := range apiNames {
			versions := ""
			if g.chance(3) {
				versions = ", versions: [{name: " + api + "-v1}]"
				g.object("APIVersion", ns, api+"-v1", "", "release: v1.0.0, "+g.operationSets())
			}
			if !g.chance(8) {
				g.object("API", ns, api, g.labels(), "title: An API, "+g.operationSets()+versions)
			}
		}
		g.object("APIBundle", ns, "bundle", "", "title: A bundle, apis: "+g.list(2, "name", apiNames))
		g.object("APIPlan", ns, "free", "", "title: Free, rateLimit: {limit: 1000000, period: 1m, bucket: "+g.bucket()+"}")
		g.object("APIPlan", ns, "gold", "", "title: Gold, rateLimit: {limit: 500000}, quota: {limit: 1000000, period: 90m, bucket: "+g.bucket()+"}")
		g.object("APIPlan", ns, "blocked", "", "title: Blocked, quota: {limit: 0, period: 1h}")
		if !g.chance(4) {
			g.object("APIPlan", ns, "open", "", "title: Open")
		}
		for _, app := range appNames {
			g.application(ns, app)
		}
		for i := range 6 + g.IntN(8) {
			g.subscription(ns, fmt.Sprintf("sub-%d", i))
		}
	}
	return g.out.String()
}

func (g *generator) bucket() string { return g.pick("subscription", "application", "application-api") }

func (g *generator) application(ns, name string) {
	var entries []string
	for i := range 1 + g.IntN(2) {
		k := g.pick(keys...)
		entry := "value: " + key.Digest(k)
		if g.chance(3) {
			secret := fmt.Sprintf("%s-%d", name, i)
			entry = "secretName: " + secret
			fmt.Fprintf(&g.out, "---\napiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: %s}\nstringData: {key: %s}\n", secret, ns, key.Digest(k))
		}
		entries = append(entries, fmt.Sprintf("{title: key %d, suspended: %t, %s}", i, g.chance(6), entry))
	}
	// Now and then two have one App ID.
	id := name
	if g.chance(8) {
		id = g.pick(appNames...)
	}
	g.object("ManagedApplication", ns, name, g.labels(), "appId: id-"+id+", owner: me, apiKeys: ["+strings.Join(entries, ", ")+"]")
}

func (g *generator) subscription(ns, name string) {
	fields := []string{"apiPlan: {name: " + g.pick(planNames...) + "}", fmt.Sprintf("weight: %d", g.IntN(3))}
	add := func(n int, field string) {
		if g.chance(n) {
			fields = append(fields, field)
		}
	}
	fields = append(fields, "managedApplications: "+g.list(4, "name", appNames))
	add(3, "managedApplicationSelector: "+selector(g))
	add(8, "applications: [{appId: id-ann}]")
	fields = append(fields, "apis: "+g.list(2, "name", apiNames))
	add(3, "apiSelector: "+selector(g))
	add(4, "apiBundles: [{name: bundle}]")
	add(12, "claims: Equals(`a`)")
	switch g.IntN(5) {
	case 0:
		fields = append(fields, "operationFilter: {include: []}")
	case 1, 2, 3:
		fields = append(fields, "operationFilter: {include: "+g.list(1+g.IntN(3), "", setNames)+"}")
	}
	g.object("ManagedSubscription", ns, name, "", strings.Join(fields, ", "))
}

// target is a path as it stands in a request.
func (g *generator) target() string {
	var b strings.Builder
	if g.chance(3) {
		b.WriteString("/weather")
	}
	for range 1 + g.IntN(3) {
		b.WriteString("/" + g.pick(segments...))
	}
	if g.chance(6) {
		b.WriteString("/")
	}
	if g.chance(8) {
		b.WriteString("?q=/weather/../x")
	}
	return b.String()
}

// presented is a key as clients present them.
func (g *generator) presented() string {
	switch g.IntN(40) {
	case 0:
		return ""
	case 1:
		return nobody
	case 2:
		return key.Digest(keys[0])
	}
	return g.pick(keys...)
}
