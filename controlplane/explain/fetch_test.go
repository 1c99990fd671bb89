package explain_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tollgate-apim/tollgate/controlplane/explain"
	"github.com/tollgate-apim/tollgate/controlplane/server"
	"github.com/tollgate-apim/tollgate/table"
)

// TestFetchParts fetches a table in parts, of which some go away meanwhile.
func TestFetchParts(t *testing.T) {
	want := &table.Table{
		Revision: 1, IssuedAt: time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC),
		Plans: map[string]table.Plan{"apps/plan": {Title: "Standard"}}, APIs: map[string]table.API{"apps/api": {}},
		Subscriptions: map[string]table.Subscription{}, Applications: map[string]table.Application{}, Keys: map[string][]table.Holder{},
	}
	for n := range 2000 {
		name := fmt.Sprint("apps/", n)
		want.Applications[name] = table.Application{AppID: name}
		want.Subscriptions[name] = table.Subscription{Plan: "apps/plan"}
		want.Keys[fmt.Sprintf("%04x%0124x", n*30, n)] = []table.Holder{{Application: name}}
	}
	s := server.New(server.Options{Log: slog.New(slog.DiscardHandler), PartsAbove: 1})
	if err := s.Publish(want, nil, nil); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		gone    int // how often a part is not there
		problem string
	}{{0, ""}, {2, ""}, {3, "fetching part 1 of 8: nothing is there: 404 Not Found"}} {
		gone := test.gone
		endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/v1/parts/") && gone > 0 {
				gone--
				http.NotFound(w, r)
				return
			}
			s.Handler().ServeHTTP(w, r)
		}))
		got, err := explain.Fetch(t.Context(), endpoint.Client(), endpoint.URL+"/", "")
		endpoint.Close()
		if test.problem != "" {
			if err == nil || err.Error() != test.problem {
				t.Errorf("%d times gone: got %v, want %q", test.gone, err, test.problem)
			}
			continue
		}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%d times gone: %v (-want +got):\n%.500s", test.gone, err, diff)
		}
	}
}
