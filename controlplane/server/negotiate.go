package server

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// acceptsGzip reads Accept-Encoding (RFC 9110, 12.5.3).
func acceptsGzip(fields []string) bool {
	accepted := false
	for _, item := range strings.Split(strings.Join(fields, ","), ",") {
		coding, parameters, _ := strings.Cut(item, ";")
		coding = strings.ToLower(strings.TrimSpace(coding))
		if coding != "gzip" && coding != "x-gzip" && coding != "*" {
			continue
		}
		if coding != "*" {
			return weight(parameters) > 0
		}
		accepted = weight(parameters) > 0
	}
	return accepted
}

// accepts reads Accept (RFC 9110, 12.5.1): of the ranges that a type is in, the
// narrowest counts. Without the field all is accepted.
func accepts(fields []string, mediaType string) bool {
	if len(fields) == 0 {
		return true
	}
	kind, _, _ := strings.Cut(mediaType, "/")
	ranges := []string{"*/*", kind + "/*", mediaType}
	narrowest, accepted := -1, false
	for _, item := range splitOutsideQuotes(strings.Join(fields, ","), ',') {
		name, parameters, _ := strings.Cut(item, ";")
		width := slices.Index(ranges, strings.ToLower(strings.TrimSpace(name)))
		if width >= 0 && width >= narrowest {
			narrowest, accepted = width, weight(parameters) > 0
		}
	}
	return accepted
}

// weight returns the weight among the parameters of an item, which is 1 unless
// told. What is no number weighs nothing.
func weight(parameters string) float64 {
	for _, parameter := range strings.Split(parameters, ";") {
		if q, ok := strings.CutPrefix(strings.ToLower(strings.ReplaceAll(parameter, " ", "")), "q="); ok {
			w, _ := strconv.ParseFloat(q, 64)
			return w
		}
	}
	return 1
}

// matches reads If-None-Match (RFC 9110, 13.1.2), which compares weakly.
func matches(fields []string, etag string) bool {
	for _, item := range strings.Split(strings.Join(fields, ","), ",") {
		item = strings.TrimSpace(item)
		if item == "*" || strings.TrimPrefix(item, "W/") == etag {
			return true
		}
	}
	return false
}

// maxWait is for how long a request is held at most: longer than that, proxies
// between here and a gateway take for a failure.
const maxWait = 60 * time.Second

// preferredWait reads the preference wait of Prefer (RFC 7240), cut to maxWait.
// It is false if there is none that can be honoured. Other preferences, and
// parameters, say nothing here.
func preferredWait(fields []string) (time.Duration, bool) {
	for _, preference := range splitOutsideQuotes(strings.Join(fields, ","), ',') {
		preference = splitOutsideQuotes(preference, ';')[0]
		name, value, _ := strings.Cut(preference, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "wait") {
			continue
		}
		// Of a preference that comes twice only the first counts.
		value = unquote(strings.TrimSpace(value))
		if value == "" || strings.Trim(value, "0123456789") != "" {
			return 0, false
		}
		seconds, err := strconv.Atoi(value)
		if err != nil || seconds > int(maxWait/time.Second) { // more than fit into an int, too
			return maxWait, true
		}
		return time.Duration(seconds) * time.Second, true
	}
	return 0, false
}

// splitOutsideQuotes is strings.Split for text with quoted strings in it (RFC
// 9110, 5.6.4).
func splitOutsideQuotes(text string, separator byte) []string {
	var parts []string
	start, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch {
		case quoted && text[i] == '\\':
			i++
		case text[i] == '"':
			quoted = !quoted
		case text[i] == separator && !quoted:
			parts = append(parts, text[start:i])
			start = i + 1
		}
	}
	return append(parts, text[start:])
}

// unquote returns what a quoted string stands for, and anything else as it is.
func unquote(word string) string {
	if len(word) < 2 || word[0] != '"' || word[len(word)-1] != '"' {
		return word
	}
	var text strings.Builder
	for i := 1; i < len(word)-1; i++ {
		if word[i] == '\\' && i < len(word)-2 {
			i++
		}
		text.WriteByte(word[i])
	}
	return text.String()
}
