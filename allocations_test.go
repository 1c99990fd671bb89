//go:build !yaegi
// +build !yaegi

// Yaegi reads only the second form of the constraint.

package tollgate

import (
	"net/http"
	"testing"

	"github.com/tollgate-apim/tollgate/table"
)

// The compiled path allocates little; e2e/yaegi counts what the interpreter
// adds. Both count objects and not time, which no test can rely on.
func TestAllocations(t *testing.T) {
	for _, test := range []struct {
		name   string
		plan   table.Plan
		key    string
		status int // 0 for an admitted request
		atMost float64
	}{
		{"no limits", table.Plan{}, "ann", 0, 0},
		{"rate limit", table.Plan{RateLimit: perHour(1e9)}, "ann", 0, 4},
		{"rate limit and quota", table.Plan{RateLimit: perHour(1e9), Quota: per64Hours(1e9)}, "ann", 0, 9},
		{"filtered", table.Plan{}, "filtered", 0, 3},
		{"rate limit used up", table.Plan{RateLimit: perHour(1)}, "ann", http.StatusTooManyRequests, 6},
		{"unknown key", table.Plan{}, "nobody", http.StatusUnauthorized, 6},
		{"no key", table.Plan{}, "", http.StatusUnauthorized, 0},
	} {
		withSources(t, holding(testTable(test.plan), 0))
		r := newRig(t, testConfig(weatherAPI))
		request, err := http.NewRequest(http.MethodGet, "/weather/today", nil)
		if err != nil {
			t.Fatal(err)
		}
		var authorization []string
		if test.key != "" {
			authorization = []string{"Bearer " + test.key}
		}
		w := &forgetfulWriter{header: http.Header{}}
		got := testing.AllocsPerRun(100, func() {
			w.status = 0
			delete(request.Header, "Authorization")
			if authorization != nil {
				request.Header["Authorization"] = authorization
			}
			r.handler.ServeHTTP(w, request)
		})
		if w.status != test.status {
			t.Errorf("%s: got status %d, want %d", test.name, w.status, test.status)
		}
		if got > test.atMost {
			t.Errorf("%s: %g allocations for a request, at most %g", test.name, got, test.atMost)
		}
	}
}

// forgetfulWriter allocates nothing for an answer.
type forgetfulWriter struct {
	header http.Header
	status int
}

func (w *forgetfulWriter) Header() http.Header         { return w.header }
func (w *forgetfulWriter) WriteHeader(status int)      { w.status = status }
func (w *forgetfulWriter) Write(p []byte) (int, error) { return len(p), nil }
