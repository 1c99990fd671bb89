package matcher

import (
	"net/url"
	"path"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/tollgate-apim/tollgate/table"
)

// operations are the alternatives that a filter allows.
type operations struct {
	alternatives []alternative
	// usual matches a path without spaces, a space and a method if an alternative
	// without an expression of its own does. The method comes last because over
	// HTTP/2 it may be anything. It is one call into compiled code where asking
	// one alternative after the other is many. It may be nil, and what it does
	// not match may be allowed all the same.
	usual *regexp.Regexp
}

// maxUsual bounds the alternatives that are made one expression.
const maxUsual = 200

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
	ops, unknown = &operations{}, ""
	for _, name := range include {
		matchers, ok := api.OperationSets[name]
		if !ok && unknown == "" {
			unknown = name
		}
		for _, m := range matchers {
			ops.alternatives = append(ops.alternatives, newAlternative(m))
		}
	}
	ops.usual = newUsual(ops.alternatives)
	return ops, unknown
}

// newUsual returns the expression for the alternatives that have none themselves.
func newUsual(alternatives []alternative) *regexp.Regexp {
	var expressions []string
	for i := range alternatives {
		a := &alternatives[i]
		if a.regex != nil || strings.Contains(a.path+a.prefix, " ") {
			continue
		}
		method := "[^ ]+"
		if a.methods != nil {
			var names []string
			for name := range a.methods {
				names = append(names, regexp.QuoteMeta(name))
			}
			method = "(?:" + strings.Join(names, "|") + ")"
		}
		switch {
		case a.anyPath:
			expressions = append(expressions, "[^ ]* "+method)
		case a.path != "":
			expressions = append(expressions, regexp.QuoteMeta(a.path)+" "+method)
		default:
			expressions = append(expressions, regexp.QuoteMeta(a.prefix)+"(?:/[^ ]*)? "+method)
		}
	}
	if len(expressions) == 0 || len(expressions) > maxUsual {
		return nil
	}
	usual, err := regexp.Compile("^(?:" + strings.Join(expressions, "|") + ")$")
	if err != nil {
		return nil
	}
	return usual
}

// maxUsualPath is the length of the longest path that is matched by an expression
// of usual alternatives. That costs a hundred times what comparing costs, for each
// byte and for each alternative that still may match, and anybody with a key can
// send a megabyte.
const maxUsualPath = 256

// unusualPath finds what keeps a path from being compared as it is: all that
// plain refuses, and all that is not visible ASCII.
var unusualPath = regexp.MustCompile(`/[./]|[^!-~]|[\\;%?#]`)

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

// odd are the characters that servers disagree on.
const odd = "\\;%?#\x00"

// allows reports whether ops has an alternative for the request, whichever way
// the upstream reads its path.
func allows(ops *operations, method, decoded, raw string) bool {
	method = strings.ToUpper(method)
	if raw == "" && plain(decoded) {
		return allowsPath(ops, method, decoded)
	}
	all := readings(decoded, raw)
	if len(all) == 0 {
		return allowsAnyPath(ops, method)
	}
	for _, reading := range all {
		if !allowsPath(ops, method, reading) {
			return false
		}
	}
	return true
}

// plain reports whether all servers read a path in the same way.
func plain(decoded string) bool {
	return !strings.Contains(decoded, "/.") && !strings.Contains(decoded, "//") && !strings.ContainsAny(decoded, odd) && utf8.ValidString(decoded)
}

// allowsAnyPath reports whether ops allows a method whatever the path.
func allowsAnyPath(ops *operations, method string) bool {
	for i := range ops.alternatives {
		a := &ops.alternatives[i]
		if a.anyPath && (a.methods == nil || a.methods[method]) {
			return true
		}
	}
	return false
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

// dotSegment finds a segment that some server takes for "." or "..", however
// often its path was encoded.
var dotSegment = regexp.MustCompile(`(?i)(^|[/\\]|%(25)*(2f|5c))(\.|%(25)*2e){1,2}([\x00-\x20]|%(25)*[01][0-9a-f]|%(25)*20)*([/\\;?#\x00]|%(25)*(2f|5c|3b|3f|23|00)|$)`)

// maxOddPath is the length of the longest path whose readings are worked out, in
// both of its forms. It bounds what that costs, which is much for each byte.
const maxOddPath = 8 << 10

// parameters are what some servers allow behind a semicolon in each segment.
var parameters = regexp.MustCompile(`;[^/]*`)

// readings returns the ways in which servers read a path that is not in plain
// form. A filter has to allow all of them, so none gains anything.
//
// Dot segments take away what stands before them, so the order in which a server
// resolves, decodes and cuts decides where it ends up, and there are too many
// orders to try. With dot segments and anything else that is odd there are no
// readings, nor are there of kilobytes: no honest client sends that.
func readings(decoded, raw string) []string {
	if len(decoded)+len(raw) > maxOddPath {
		return nil
	}
	if !utf8.ValidString(decoded) {
		// Some servers read dots and slashes into overlong sequences.
		return nil
	}
	if dotSegment.MatchString(decoded) {
		if raw != "" || strings.Contains(decoded, "//") || strings.ContainsAny(decoded, odd) {
			return nil
		}
		return []string{decoded, clean(decoded)}
	}

	forms := []string{decoded}
	// Encoded slashes may be part of a segment.
	if kept := strings.NewReplacer("%2F", "%252F", "%2f", "%252F").Replace(raw); kept != raw {
		if form, err := url.PathUnescape(kept); err == nil {
			forms = append(forms, form)
		}
	}
	// Two servers in a row may decode twice.
	if form, err := url.PathUnescape(decoded); err == nil && form != decoded {
		forms = append(forms, form)
	}
	// A path may end where its query, its fragment or a C string does.
	for _, form := range forms {
		if end := strings.IndexAny(form, "?#\x00"); end >= 0 {
			forms = append(forms, form[:end])
		}
	}

	seen := map[string]bool{}
	var all []string
	for _, form := range forms {
		slashed := strings.ReplaceAll(form, `\`, "/")
		for _, reading := range []string{
			form, slashed, parameters.ReplaceAllString(form, ""), parameters.ReplaceAllString(slashed, ""),
		} {
			for _, r := range []string{reading, clean(reading)} {
				if !seen[r] {
					seen[r] = true
					all = append(all, r)
				}
			}
		}
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
