package matcher

import (
	"path"
	"regexp"
	"strings"

	"net/url"

	"github.com/tollgate-apim/tollgate/table"
)

// operations are the alternatives that a filter allows.
type operations struct {
	alternatives []alternative
}

// alternative is a table.Matcher made ready.
type alternative struct {
	methods map[string]bool // upper case; nil for any
	path    string
	prefix  string // without a slash at its end
	regex   *regexp.Regexp
	anyPath bool
}

// newOperations makes the named sets of an API ready. A set that the API does
// not have contributes nothing; the first such is returned as unknown.
func newOperations(api table.API, include []string) (ops *operations, unknown string) {
	ops = &operations{}
	for _, name := range include {
		matchers, ok := api.OperationSets[name]
		if !ok && unknown == "" {
			unknown = name
		}
		for _, m := range matchers {
			ops.alternatives = append(ops.alternatives, newAlternative(m))
		}
	}
	return ops, unknown
}

// newAlternative makes a matcher ready. Its expression compiles: the table was
// validated.
func newAlternative(m table.Matcher) alternative {
	a := alternative{path: m.Path, anyPath: m.Path == "" && m.PathPrefix == "" && m.PathRegex == ""}
	if len(m.Methods) > 0 {
		a.methods = map[string]bool{}
		for _, method := range m.Methods {
			a.methods[strings.ToUpper(method)] = true
		}
	}
	if m.PathPrefix != "" {
		a.prefix = strings.TrimSuffix(m.PathPrefix, "/")
		// The prefix "/" holds every path.
		a.anyPath = a.prefix == ""
	}
	if m.PathRegex != "" {
		a.regex = regexp.MustCompile(m.PathRegex)
	}
	return a
}

// allows reports whether ops has an alternative for the request, whichever way
// the upstream reads its path.
func allows(ops *operations, method, decoded, raw string) bool {
	method = strings.ToUpper(method)
	if raw == "" && !strings.Contains(decoded, "/.") && !strings.Contains(decoded, "//") && !strings.ContainsAny(decoded, `\;`) {
		return allowsPath(ops, method, decoded)
	}
	for _, reading := range readings(decoded, raw) {
		if !allowsPath(ops, method, reading) {
			return false
		}
	}
	return true
}

func allowsPath(ops *operations, method, path string) bool {
	for i := range ops.alternatives {
		a := &ops.alternatives[i]
		if (a.methods == nil || a.methods[method]) && matchesPath(a, path) {
			return true
		}
	}
	return false
}

func matchesPath(a *alternative, path string) bool {
	if a.anyPath {
		return true
	}
	if a.path != "" {
		return a.path == path
	}
	if a.regex != nil {
		return a.regex.MatchString(path)
	}
	return strings.HasPrefix(path, a.prefix) && (len(path) == len(a.prefix) || path[len(a.prefix)] == '/')
}

// readings returns the ways in which servers read a path that is not in plain
// form: with or without dot segments and doubled slashes resolved, with encoded
// slashes as slashes or as part of a segment, with backslashes as slashes, with
// or without the parameters that some servers allow behind a semicolon. A filter
// has to allow all of them, so none gains anything.
func readings(decoded, raw string) []string {
	all := []string{decoded, clean(decoded)}
	if kept := strings.NewReplacer("%2F", "%252F", "%2f", "%252F").Replace(raw); kept != raw {
		if path, err := url.PathUnescape(kept); err == nil {
			all = append(all, path, clean(path))
		}
	}
	if strings.ContainsAny(decoded, `\;`) {
		segments := strings.Split(strings.ReplaceAll(decoded, `\`, "/"), "/")
		for i, segment := range segments {
			segments[i], _, _ = strings.Cut(segment, ";")
		}
		all = append(all, clean(strings.Join(segments, "/")))
	}
	return all
}

// clean resolves dot segments and doubled slashes as RFC 3986, section 5.2.4,
// which keeps a slash at the end.
func clean(p string) string {
	cleaned := path.Clean("/" + p)
	if cleaned != "/" && (strings.HasSuffix(p, "/") || strings.HasSuffix(p, "/.") || strings.HasSuffix(p, "/..")) {
		return cleaned + "/"
	}
	return cleaned
}
