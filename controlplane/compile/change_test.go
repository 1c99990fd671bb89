package compile_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tollgate-apim/tollgate/controlplane/compile"
	"github.com/tollgate-apim/tollgate/table"
)

func TestDiff(t *testing.T) {
	before := func() *table.Table {
		return &table.Table{
			Revision:      1,
			Plans:         map[string]table.Plan{"p": {Title: "Plan"}},
			APIs:          map[string]table.API{"a": {}},
			Subscriptions: map[string]table.Subscription{"s": {Plan: "p"}, "same": {}},
			Applications:  map[string]table.Application{"app": {Grants: map[string]string{"a": "s"}}, "same": {}},
			Keys:          map[string][]table.Holder{"k": {{Application: "app"}}, "same": {{Application: "same"}}},
		}
	}
	for _, test := range []struct {
		name   string
		change func(after *table.Table)
		want   compile.Change
	}{
		{"nothing", func(after *table.Table) { after.Revision = 2 }, compile.Change{}},
		{"a plan", func(after *table.Table) { after.Plans["p"] = table.Plan{Title: "Other"} }, compile.Change{Plans: true}},
		{"no API", func(after *table.Table) { delete(after.APIs, "a") }, compile.Change{APIs: true}},
		{"a filter", func(after *table.Table) {
			after.Subscriptions["s"] = table.Subscription{Plan: "p", OperationFilter: &table.OperationFilter{}}
		}, compile.Change{Subscriptions: []string{"s"}}},
		{"grants", func(after *table.Table) { after.Applications["app"] = table.Application{} }, compile.Change{Applications: []string{"app"}}},
		{"keys", func(after *table.Table) {
			after.Keys["k"][0].Suspended = true
			after.Keys["new"] = nil
			delete(after.Keys, "same")
		}, compile.Change{Keys: []string{"k", "new", "same"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			after := before()
			test.change(after)
			got := compile.Diff(before(), after)
			slices.Sort(got.Keys)
			if diff := cmp.Diff(&test.want, got); diff != "" {
				t.Errorf("change (-want +got):\n%s", diff)
			}
			if empty := test.name == "nothing"; got.Empty() != empty {
				t.Errorf("Empty is %v, want %v", got.Empty(), empty)
			}
		})
	}
}
