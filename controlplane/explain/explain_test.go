package explain_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/explain"
	"github.com/tollgate-apim/tollgate/controlplane/key"
	"github.com/tollgate-apim/tollgate/table"
)

// foreignTable is one as somebody else may make it, with names that manifests
// cannot have.
func foreignTable() *table.Table {
	return &table.Table{
		Revision: 7, IssuedAt: time.Unix(1, 0),
		Plans: map[string]table.Plan{"apps/plan": {RateLimit: &table.RateLimit{Limit: 3, Period: "90s"}}},
		APIs:  map[string]table.API{"apps/api": {OperationSets: map[string][]table.Matcher{"set": {{Path: "/a"}}}}},
		Subscriptions: map[string]table.Subscription{
			"apps/sub":      {Plan: "apps/plan"},
			"apps/dangling": {Plan: "apps/gone"},
			"apps/unknown":  {Plan: "apps/plan", OperationFilter: &table.OperationFilter{Include: []string{"gone"}}},
		},
		Applications: map[string]table.Application{
			"apps/app":      {AppID: "id\x1b[31m", Grants: map[string]string{"apps/api": "apps/sub"}},
			"apps/dangling": {AppID: "d", Grants: map[string]string{"apps/api": "apps/dangling"}},
			"apps/lost":     {AppID: "l", Grants: map[string]string{"apps/api": "apps/lost"}},
			"apps/unknown":  {AppID: "u", Grants: map[string]string{"apps/api": "apps/unknown"}},
		},
		Keys: map[string][]table.Holder{
			key.Digest("good"):     {{Application: "apps/app", Title: "a\nb"}},
			key.Digest("nobody's"): {{Application: "apps/nobody"}},
			key.Digest("empty"):    {},
		},
	}
}

func TestForeignTable(t *testing.T) {
	for _, test := range []struct {
		name   string
		ask    explain.Question
		answer string   // the reason, or empty
		texts  []string // in what is written
	}{
		{"names are shown so that they do nothing", explain.Question{Key: "good", Target: "/%1b"}, "",
			[]string{`App ID "id\x1b[31m", key "a\nb"`, `GET "/\x1b" at API`, "by revision 7 of the table", `"rate";q=3;w=90`, "3 in 90s, 3 at once", "counted for subscription apps/sub"}},
		{"no application", explain.Question{Key: "nobody's", Target: "/"}, "subscription_missing",
			[]string{"refused: a key names application apps/nobody, which the table does not have"}},
		{"no holder", explain.Question{Key: "empty", Target: "/"}, "key_invalid", []string{"is not known"}},
		{"no plan", explain.Question{Application: "d", Target: "/"}, "subscription_missing",
			[]string{"subscription apps/dangling names plan apps/gone, which the table does not have"}},
		{"no subscription", explain.Question{Application: "apps/lost", Target: "/"}, "subscription_missing",
			[]string{"by subscription apps/lost, which the table does not have", "application apps/lost has no key that is in force"}},
		{"no operation set", explain.Question{Application: "u", Target: "/a"}, "operation_forbidden",
			[]string{"gone  the API has no such set", "no operation set of apps/unknown (gone) matches GET /a"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.ask.API, test.ask.Method = "apps/api", "GET"
			e, err := explain.Explain(explain.World{Table: foreignTable()}, test.ask)
			if err != nil {
				t.Fatal(err)
			}
			if e.Answer.Reason != test.answer || e.Answer.Admitted != (test.answer == "") {
				t.Errorf("got %+v, want %q", e.Answer, test.answer)
			}
			var text strings.Builder
			if err := e.Text(&text); err != nil {
				t.Fatal(err)
			}
			for _, want := range test.texts {
				if !strings.Contains(text.String(), want) {
					t.Errorf("found no %q in\n%s", want, text.String())
				}
			}
		})
	}
}
