package tollgate

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// keySource says where the key of a request is. An empty field disables that
// place. The header's name is canonical.
type keySource struct {
	header string
	scheme string
	prefix string // the scheme and a space, or nothing
	query  string
	cookie string

	// What follows finds a parameter or a cookie of that name in one call into
	// compiled code, however many others there are: anybody can send a megabyte
	// of them. The first finds the value, the second all that is to be hidden.
	queryValue, queryAll   *regexp.Regexp
	cookieValue, cookieAll *regexp.Regexp
}

// newKeySource makes a key source ready. The names were checked.
func newKeySource(header, scheme, query, cookie string) *keySource {
	s := &keySource{header: http.CanonicalHeaderKey(header), scheme: scheme, query: query, cookie: cookie}
	if scheme != "" {
		s.prefix = scheme + " "
	}
	if query != "" {
		// Traefik forwards a semicolon as an ampersand, so both end a parameter.
		name := "[&;]" + encodedName(query)
		s.queryValue = regexp.MustCompile(name + "=([^&;]+)")
		s.queryAll = regexp.MustCompile(name + "(?:=[^&;]*)?([&;]|$)")
	}
	if cookie != "" {
		name := "[ \t]*" + regexp.QuoteMeta(cookie) + "[ \t]*"
		s.cookieValue = regexp.MustCompile(";" + name + "=([^;]+)")
		s.cookieAll = regexp.MustCompile(";" + name + "(?:=[^;]*)?(;|$)")
	}
	return s
}

// encodedName is an expression for a name in which any character may be encoded.
func encodedName(name string) string {
	expression := ""
	for _, r := range name {
		encoded := ""
		for _, b := range []byte(string(r)) {
			encoded += fmt.Sprintf("%%(?i:%02x)", b)
		}
		expression += "(?:" + regexp.QuoteMeta(string(r)) + "|" + encoded + ")"
	}
	return expression
}

// place is where the key of a request is.
type place int

const (
	// nowhere: there is no key, or one place holds several. The upstream or
	// another proxy might go by another one of them than we, so none counts.
	nowhere place = iota
	// inHeader: in the only value of the header, in the usual form.
	inHeader
	// somewhere: the key is in any of the places.
	somewhere
)

// several is what presentedKey returns for the keys of a place that has several.
const several = "several keys"

// usualKey returns the key in the value of a header that has the form that nearly
// all clients send: the prefix, and behind it what neither begins nor ends with
// anything but a visible character of ASCII. It is empty in all other cases.
func usualKey(value, prefix string) string {
	begin, end := len(prefix), len(value)
	if end > begin && value[:begin] == prefix && visible[value[begin]] && visible[value[end-1]] {
		return value[begin:]
	}
	return ""
}

// visible has the visible characters of ASCII.
var visible [256]bool

func init() {
	for c := '!'; c <= '~'; c++ {
		visible[c] = true
	}
}

// presentedKey returns the key of a request: from the header, else from the
// query, else from the cookie. Where it is nowhere, the key is empty if there is
// none.
func presentedKey(r *http.Request, s *keySource) (string, place) {
	if values := r.Header[s.header]; len(values) > 0 {
		if key, at := keyInHeader(values, s); key != "" {
			return key, at
		}
	}
	if r.URL.RawQuery != "" && s.query != "" {
		if key, at := keyInQuery(r.URL.RawQuery, s); key != "" {
			return key, at
		}
	}
	if s.cookie != "" {
		return keyInCookies(r.Header["Cookie"], s)
	}
	return "", nowhere
}

// keyInHeader finds the key among the values of a header.
func keyInHeader(values []string, s *keySource) (string, place) {
	if len(values) == 1 {
		if key := usualKey(values[0], s.prefix); key != "" {
			return key, inHeader
		}
	}
	if len(values) > maxHeaderValues {
		return several, nowhere
	}
	return searchHeader(values, s.scheme)
}

// maxHeaderValues is how many values of one header are looked at. No honest
// client sends more.
const maxHeaderValues = 8

// searchHeader is keyInHeader for all forms.
func searchHeader(values []string, scheme string) (key string, at place) {
	key, at = "", nowhere
	for _, value := range values {
		candidate := value
		if scheme != "" {
			if !hasScheme(value, scheme) {
				continue
			}
			candidate = value[len(scheme):]
		}
		candidate = strings.TrimSpace(candidate)
		if candidate == "" {
			continue
		}
		if key != "" {
			return several, nowhere
		}
		key, at = candidate, somewhere
	}
	return key, at
}

// hasScheme reports whether a header's value has an authentication scheme, whose
// case does not matter (RFC 9110, section 11.1).
func hasScheme(value, scheme string) bool {
	n := len(scheme)
	if len(value) < n || len(value) > n && value[n] != ' ' {
		return false
	}
	return strings.EqualFold(value[:n], scheme)
}

// keyInQuery finds the key among the parameters of a query.
func keyInQuery(query string, s *keySource) (string, place) {
	if !strings.Contains(query, s.query) && !strings.Contains(query, "%") {
		return "", nowhere
	}
	found := s.queryValue.FindAllStringSubmatch("&"+query, 2)
	if len(found) == 0 {
		return "", nowhere
	}
	key, err := url.QueryUnescape(found[0][1])
	if len(found) > 1 || err != nil {
		return several, nowhere
	}
	return key, somewhere
}

// keyInCookies finds the key among the cookies of a request.
func keyInCookies(lines []string, s *keySource) (string, place) {
	found := s.cookieValue.FindAllStringSubmatch(";"+strings.Join(lines, ";"), 2)
	if len(found) == 0 {
		return "", nowhere
	}
	if len(found) > 1 {
		return several, nowhere
	}
	key := strings.Trim(strings.TrimSpace(found[0][1]), `"`)
	if key == "" {
		return "", nowhere
	}
	return key, somewhere
}

// hideKey takes the key out of all places where it may be. What else stands
// there goes on to the upstream as it came, to the byte.
func hideKey(r *http.Request, s *keySource) {
	if s.header != "" {
		hideInHeader(r.Header, s)
	}
	if s.query != "" && r.URL.RawQuery != "" {
		r.URL.RawQuery = without(r.URL.RawQuery, "&", s.queryAll)
		// Traefik forwards this one.
		if path, query, found := strings.Cut(r.RequestURI, "?"); found {
			r.RequestURI = path
			if query = without(query, "&", s.queryAll); query != "" {
				r.RequestURI += "?" + query
			}
		}
	}
	if s.cookie != "" {
		hideInCookies(r.Header, s)
	}
}

// without returns a list without all items that an expression matches. Items are
// found behind a separator, and keep that which stood before them.
func without(list, separator string, item *regexp.Regexp) string {
	kept := separator + list
	if !item.MatchString(kept) {
		return list
	}
	// A match takes the separator behind it along, so each turn leaves every
	// other one of several in a row.
	for {
		shorter := item.ReplaceAllString(kept, "$1")
		if shorter == kept {
			break
		}
		kept = shorter
	}
	if kept == "" {
		return ""
	}
	return kept[1:]
}

// hideInHeader leaves other schemes in: they are not ours.
func hideInHeader(h http.Header, s *keySource) {
	var kept []string
	if s.scheme != "" {
		for _, value := range h[s.header] {
			if !hasScheme(value, s.scheme) {
				kept = append(kept, value)
			}
		}
	}
	if len(kept) == 0 {
		delete(h, s.header)
		return
	}
	h[s.header] = kept
}

// hideInCookies takes the cookies of a name out of the Cookie headers.
func hideInCookies(h http.Header, s *keySource) {
	lines := h["Cookie"]
	if len(lines) > maxHeaderValues {
		lines = []string{strings.Join(lines, "; ")}
	}
	var kept []string
	for _, line := range lines {
		if line = strings.TrimSpace(without(line, ";", s.cookieAll)); line != "" {
			kept = append(kept, line)
		}
	}
	if len(kept) == 0 {
		delete(h, "Cookie")
		return
	}
	h["Cookie"] = kept
}
