package tollgate

import (
	"net/http"
	"net/url"
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
		if key, at := keyInQuery(r.URL.RawQuery, s.query); key != "" {
			return key, at
		}
	}
	if s.cookie != "" {
		return keyInCookies(r, s.cookie)
	}
	return "", nowhere
}

// keyInHeader finds the key among the values of a header.
func keyInHeader(values []string, s *keySource) (string, place) {
	// Nearly all requests have it in the usual form.
	if key, ok := strings.CutPrefix(values[0], s.prefix); ok && len(values) == 1 && key == strings.TrimSpace(key) {
		return key, inHeader
	}
	return searchHeader(values, s.scheme)
}

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
func keyInQuery(query, name string) (key string, at place) {
	key, at = "", nowhere
	if !mayHaveParameter(query, name) {
		return "", nowhere
	}
	for _, parameter := range strings.FieldsFunc(query, isSeparator) {
		if !isParameter(parameter, name) {
			continue
		}
		_, value, _ := strings.Cut(parameter, "=")
		candidate, err := url.QueryUnescape(value)
		if err == nil && candidate == "" {
			continue
		}
		if err != nil || key != "" {
			return several, nowhere
		}
		key, at = candidate, somewhere
	}
	return key, at
}

// mayHaveParameter tells at little cost that most queries have no such parameter.
func mayHaveParameter(query, name string) bool {
	return strings.Contains(query, name) || strings.ContainsAny(query, "%+")
}

// isSeparator: Traefik forwards a semicolon as an ampersand, so both end a
// parameter.
func isSeparator(r rune) bool {
	return r == '&' || r == ';'
}

// isParameter reports whether a parameter, in its encoded form, has a name.
func isParameter(parameter, name string) bool {
	encoded, _, _ := strings.Cut(parameter, "=")
	if encoded == name {
		return true
	}
	decoded, err := url.QueryUnescape(encoded)
	return err == nil && decoded == name
}

// keyInCookies finds the key among the cookies of a request.
func keyInCookies(r *http.Request, name string) (key string, at place) {
	key, at = "", nowhere
	for _, cookie := range r.Cookies() {
		if cookie.Name != name || cookie.Value == "" {
			continue
		}
		if key != "" {
			return several, nowhere
		}
		key, at = cookie.Value, somewhere
	}
	return key, at
}

// hideKey takes the key out of all places where it may be. What else stands
// there goes on to the upstream as it came, to the byte.
func hideKey(r *http.Request, s *keySource) {
	if s.header != "" {
		hideInHeader(r.Header, s)
	}
	if s.query != "" {
		hideInQuery(r, s.query)
	}
	if s.cookie != "" {
		hideInCookies(r.Header, s.cookie)
	}
}

// hideInQuery takes the parameters of a name out of both forms of the query.
func hideInQuery(r *http.Request, name string) {
	if !mayHaveParameter(r.URL.RawQuery, name) {
		return
	}
	r.URL.RawQuery = withoutParameter(r.URL.RawQuery, name)
	// Traefik forwards this one.
	if path, query, found := strings.Cut(r.RequestURI, "?"); found {
		r.RequestURI = path
		if query = withoutParameter(query, name); query != "" {
			r.RequestURI += "?" + query
		}
	}
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

// withoutParameter returns a query without all parameters of a name. What is
// left keeps the separators that stood before it.
func withoutParameter(query, name string) string {
	var kept strings.Builder
	first := true
	for separator, rest, more := "", query, true; more; {
		parameter, next, following := rest, "", ""
		end := strings.IndexAny(rest, "&;")
		if more = end >= 0; more {
			parameter, following, next = rest[:end], rest[end:end+1], rest[end+1:]
		}
		if !isParameter(parameter, name) {
			if !first {
				kept.WriteString(separator)
			}
			kept.WriteString(parameter)
			first = false
		}
		separator, rest = following, next
	}
	return kept.String()
}

// hideInCookies takes the cookies of a name out of the Cookie headers.
func hideInCookies(h http.Header, name string) {
	var kept []string
	for _, line := range h["Cookie"] {
		pairs := strings.Split(line, ";")
		others := pairs[:0]
		for _, pair := range pairs {
			if found, _, _ := strings.Cut(strings.TrimSpace(pair), "="); strings.TrimSpace(found) != name {
				others = append(others, pair)
			}
		}
		if rest := strings.TrimSpace(strings.Join(others, ";")); rest != "" {
			kept = append(kept, rest)
		}
	}
	if len(kept) == 0 {
		delete(h, "Cookie")
		return
	}
	h["Cookie"] = kept
}
