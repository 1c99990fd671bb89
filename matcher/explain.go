package matcher

import (
	"strings"

	"github.com/tollgate-apim/tollgate/table"
)

// What follows tells why Allows decides as it does. No request waits for it.

// Readings returns the ways in which servers read the path of a request. Path and
// rawPath are those of Allows, which demands that a filter allow every reading. A
// path that is too odd to be read has none: only matchers of any path allow it.
func Readings(path, rawPath string) []string {
	if rawPath == "" && plain(path) {
		return []string{path}
	}
	return readings(path, rawPath)
}

// Matches reports whether a matcher matches a method and one reading of a path.
func Matches(m table.Matcher, method, reading string) bool {
	return allowsPath(&operations{alternatives: []alternative{newAlternative(m)}}, strings.ToUpper(method), reading)
}

// MatchesAnyPath reports whether a matcher matches a method, whatever the path.
func MatchesAnyPath(m table.Matcher, method string) bool {
	return allowsAnyPath(&operations{alternatives: []alternative{newAlternative(m)}}, strings.ToUpper(method))
}
