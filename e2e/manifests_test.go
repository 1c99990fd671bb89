package e2e

import (
	"fmt"
	"strings"
)

// namespace writes manifests of one namespace in short. The specs are YAML in
// flow style: `{title: Weather}`.
type namespace string

func (n namespace) object(kind, name, spec string) string {
	return n.labelled(kind, name, "{}", spec)
}

func (n namespace) labelled(kind, name, labels, spec string) string {
	return fmt.Sprintf("apiVersion: hub.traefik.io/v1alpha1\nkind: %s\nmetadata: {name: %s, namespace: %s, labels: %s}\nspec: %s\n", kind, name, n, labels, spec)
}

// api is an API without operation sets.
func (n namespace) api(name string) string {
	return n.object("API", name, "{title: An API}")
}

func (n namespace) plan(name, limits string) string {
	return n.object("APIPlan", name, fmt.Sprintf("{title: A plan, %s}", limits))
}

// unlimited is a plan without limits.
func (n namespace) unlimited(name string) string {
	return n.object("APIPlan", name, "{title: Unlimited}")
}

// app is a ManagedApplication whose App ID is its name, with inline keys.
func (n namespace) app(name string, keys ...string) string {
	return n.appWithID(name, name, keys...)
}

func (n namespace) appWithID(name, appID string, keys ...string) string {
	var entries []string
	for _, key := range keys {
		entries = append(entries, fmt.Sprintf(`{value: "{{digest %q}}", title: title of %s}`, key, name))
	}
	return n.object("ManagedApplication", name,
		fmt.Sprintf("{appId: %s, owner: an-owner, apiKeys: [%s]}", appID, strings.Join(entries, ", ")))
}

// sub is a ManagedSubscription of some applications to some APIs; more is added
// to its spec.
func (n namespace) sub(name, plan string, apps, apis []string, more ...string) string {
	fields := []string{"apiPlan: {name: " + plan + "}"}
	if apps != nil {
		fields = append(fields, "managedApplications: "+names(apps))
	}
	if apis != nil {
		fields = append(fields, "apis: "+names(apis))
	}
	return n.object("ManagedSubscription", name, "{"+strings.Join(append(fields, more...), ", ")+"}")
}

func names(all []string) string {
	var entries []string
	for _, name := range all {
		entries = append(entries, "{name: "+name+"}")
	}
	return "[" + strings.Join(entries, ", ") + "]"
}

func list(names ...string) []string { return names }
