package matcher

import (
	"net/url"
	"testing"

	"github.com/tollgate-apim/tollgate/table"
)

// explained decides by what explains a decision.
func explained(matchers []table.Matcher, method, path, rawPath string) bool {
	readings := Readings(path, rawPath)
	for _, reading := range readings {
		matched := false
		for _, m := range matchers {
			matched = matched || Matches(m, method, reading)
		}
		if !matched {
			return false
		}
	}
	if len(readings) > 0 {
		return true
	}
	for _, m := range matchers {
		if MatchesAnyPath(m, method) {
			return true
		}
	}
	return false
}

func TestExplainedAsDecided(t *testing.T) {
	targets := append([]string{
		"/", "/weather", "/weather/x", "/weatherman", "/orders", "*", "..", ".", "weather", "",
		"/weather//x", "/weather/./x", "/weather/x/..", "/weather;v=1/x", "/weather/a%2Fb", "/weather/100%25",
	}, tricks...)
	sets := map[string][]table.Matcher{
		"none":    nil,
		"prefix":  {{PathPrefix: "/weather"}},
		"root":    {{PathPrefix: "/"}},
		"methods": {{Methods: []string{"get"}}},
		"several": {{Methods: []string{"POST"}, Path: "/orders"}, {PathRegex: "^/weather/[^/]+$"}, {Methods: []string{"Get"}, Path: "/weather"}},
	}
	for name, matchers := range sets {
		v := filtered(map[string][]table.Matcher{"set": matchers}, "set")
		for _, target := range targets {
			u := &url.URL{Path: target}
			if parsed, err := url.ParseRequestURI(target); err == nil {
				u = parsed
			}
			for _, method := range []string{"GET", "get", "POST", "BREW"} {
				want := refusal(v, "k", method, u.Path, u.RawPath) == ""
				if got := explained(matchers, method, u.Path, u.RawPath); got != want {
					t.Errorf("%s, %s %s: explained as allowed: %t, decided: %t", name, method, target, got, want)
				}
			}
		}
	}
}
