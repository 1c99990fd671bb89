package explain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tollgate-apim/tollgate/controlplane/compile"
	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

// object is what a table names namespace/name.
func object(kind, name string) finding.Object {
	namespace, name, _ := strings.Cut(name, "/")
	return finding.Object{Kind: kind, Namespace: namespace, Name: name}
}

// candidates returns the subscriptions that select an application and the API.
func (x *explainer) candidates(application string) []Candidate {
	if x.Compiled == nil {
		return nil
	}
	var out []Candidate
	var winner *compile.Subscription
	for _, s := range x.Compiled.Subscriptions {
		if !selectsApplication(s, application) || !selectsAPI(s, x.out.API) {
			continue
		}
		c := Candidate{
			Subscription: s.Namespace + "/" + s.Name, Weight: s.Spec.Weight, Plan: s.Namespace + "/" + s.Spec.APIPlan.Name,
		}
		if winner == nil {
			winner, c.Wins = s, true
			c.Why = "comes first"
			if s.Barred != "" {
				c.Why = "comes first, but grants nothing: " + string(s.Barred)
			}
		} else if s.Spec.Weight < winner.Spec.Weight {
			c.Why = fmt.Sprintf("loses to %s/%s, which is heavier", winner.Namespace, winner.Name)
		} else {
			c.Why = fmt.Sprintf("loses to %s/%s, which is as heavy and first by name", winner.Namespace, winner.Name)
		}
		out = append(out, c)
	}
	return out
}

func selectsApplication(s *compile.Subscription, name string) bool {
	wanted := object("ManagedApplication", name)
	return slices.ContainsFunc(s.Applications, func(a *manifest.ManagedApplication) bool { return a.Ref() == wanted })
}

func selectsAPI(s *compile.Subscription, name string) bool {
	wanted := object("API", name)
	return slices.ContainsFunc(s.APIs, func(a *manifest.API) bool { return a.Ref() == wanted })
}

// whyNoGrant says why an application may not call the API at all.
func (x *explainer) whyNoGrant(application string, candidates []Candidate, problems []string) string {
	if len(problems) > 0 {
		return strings.Join(problems, "; ")
	}
	if len(candidates) > 0 {
		return "its winning subscription " + candidates[0].Subscription + " " + candidates[0].Why
	}
	appSpace, _, _ := strings.Cut(application, "/")
	apiSpace, _, _ := strings.Cut(x.out.API, "/")
	if appSpace != apiSpace {
		return fmt.Sprintf("no subscription lets it call the API: one never leaves its namespace, and they are of %s and %s", appSpace, apiSpace)
	}
	why := "no subscription lets it call the API"
	if x.Compiled == nil {
		return why
	}
	var byApplication, byAPI []string
	for _, s := range x.Compiled.Subscriptions {
		switch {
		case selectsApplication(s, application):
			byApplication = append(byApplication, s.Name)
		case selectsAPI(s, x.out.API):
			byAPI = append(byAPI, s.Name)
		}
	}
	if len(byApplication) > 0 {
		why += fmt.Sprintf("; for other APIs it has %s", some(byApplication))
	}
	if len(byAPI) > 0 {
		why += fmt.Sprintf("; other applications call the API by %s", some(byAPI))
	}
	return why
}

// findings picks those about the objects that a refusal comes from.
func (x *explainer) findings() {
	if x.Compiled == nil || x.out.Answer.Admitted {
		return
	}
	about := x.involved()
	for _, f := range finding.Sort(slices.Concat(x.Loaded.Findings, x.Compiled.Findings)) {
		kind := finding.Object{Kind: f.Object.Kind}
		local := finding.Object{Kind: f.Object.Kind, Namespace: f.Object.Namespace}
		if f.Object == (finding.Object{}) || about[f.Object] || about[kind] || about[local] {
			x.out.Findings = append(x.out.Findings, f)
		}
	}
	const most = 10
	if more := len(x.out.Findings) - most; more > 0 {
		x.out.Findings = x.out.Findings[:most]
		x.note("%d more findings may matter", more)
	}
}

// involved returns the objects that the refusal may come from. One without a name
// stands for all of its kind and namespace, or of all namespaces.
func (x *explainer) involved() map[finding.Object]bool {
	about := map[finding.Object]bool{}
	add := func(kind, name string) { about[object(kind, name)] = true }
	add("API", x.out.API)
	if !x.out.Key.Known {
		// Any of these may have had the key.
		about[finding.Object{Kind: "ManagedApplication"}] = true
		about[finding.Object{Kind: "Secret"}] = true
	}
	for _, h := range x.out.Holders {
		add("ManagedApplication", h.Application)
		for _, c := range h.Candidates {
			add("ManagedSubscription", c.Subscription)
			add("APIPlan", c.Plan)
		}
		if h.Refusal != "" && len(h.Candidates) == 0 {
			// One that is left out, or selects nothing, may have been meant.
			namespace, _, _ := strings.Cut(h.Application, "/")
			about[finding.Object{Kind: "ManagedSubscription", Namespace: namespace}] = true
			about[finding.Object{Kind: "APIBundle", Namespace: namespace}] = true
		}
	}
	return about
}
