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
	query  string
	cookie string
}

// What presentedKey found.
const (
	keyAbsent = iota
	keyPresent
	// keyAmbiguous: one place holds several keys. The upstream or another
	// proxy might go by another one than we, so none counts.
	keyAmbiguous
)

// presentedKey returns the key of a request: from the header, else from the
// query, else from the cookie.
func presentedKey(r *http.Request, s *keySource) (key string, verdict int) {
	if s.header != "" {
		if values := r.Header[s.header]; len(values) > 0 {
			key, verdict = keyInHeader(values, s.scheme)
			if verdict != keyAbsent {
				return key, verdict
			}
		}
	}
	if s.query != "" && r.URL.RawQuery != "" {
		key, verdict = keyInQuery(r.URL.RawQuery, s.query)
		if verdict != keyAbsent {
			return key, verdict
		}
	}
	if s.cookie != "" && r.Header["Cookie"] != nil {
		return keyInCookies(r, s.cookie)
	}
	return "", keyAbsent
}

// keyInHeader finds the key among the values of a header.
func keyInHeader(values []string, scheme string) (key string, verdict int) {
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
		if verdict != keyAbsent {
			return "", keyAmbiguous
		}
		key, verdict = candidate, keyPresent
	}
	return key, verdict
}

// hasScheme reports whether a header's value has an authentication scheme, whose
// case does not matter (RFC 9110, section 11.1).
func hasScheme(value, scheme string) bool {
	n := len(scheme)
	if len(value) < n || len(value) > n && value[n] != ' ' {
		return false
	}
	return value[:n] == scheme || strings.EqualFold(value[:n], scheme)
}

// keyInQuery finds the key among the parameters of a query.
func keyInQuery(query, name string) (key string, verdict int) {
	if !mayHaveParameter(query, name) {
		return "", keyAbsent
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
		if err != nil || verdict != keyAbsent {
			return "", keyAmbiguous
		}
		key, verdict = candidate, keyPresent
	}
	return key, verdict
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
func keyInCookies(r *http.Request, name string) (key string, verdict int) {
	for _, cookie := range r.Cookies() {
		if cookie.Name != name || cookie.Value == "" {
			continue
		}
		if verdict != keyAbsent {
			return "", keyAmbiguous
		}
		key, verdict = cookie.Value, keyPresent
	}
	return key, verdict
}

// hideKey takes the key out of all places where it may be. What else stands
// there goes on to the upstream as it came, to the byte.
func hideKey(r *http.Request, s *keySource) {
	if s.header != "" && r.Header[s.header] != nil {
		hideInHeader(r.Header, s)
	}
	if s.query != "" && r.URL.RawQuery != "" && mayHaveParameter(r.URL.RawQuery, s.query) {
		r.URL.RawQuery = withoutParameter(r.URL.RawQuery, s.query)
		// Traefik forwards this one.
		path, query, found := strings.Cut(r.RequestURI, "?")
		if found {
			r.RequestURI = path
			if query = withoutParameter(query, s.query); query != "" {
				r.RequestURI += "?" + query
			}
		}
	}
	if s.cookie != "" && r.Header["Cookie"] != nil {
		hideInCookies(r.Header, s.cookie)
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
