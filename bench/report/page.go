package report

import (
	"errors"
	"strings"
)

// The lines in a page between which the tables stand.
const (
	pageBegin = "<!-- results: written by `make bench-render` -->\n"
	pageEnd   = "<!-- end of results -->\n"
)

// Fill returns a page with the tables of r in their place.
func Fill(page string, r *Results) (string, error) {
	before, rest, found := strings.Cut(page, pageBegin)
	_, after, ended := strings.Cut(rest, pageEnd)
	if !found || !ended {
		return "", errors.New("the page has no place for results: found no lines " + strings.TrimSpace(pageBegin) + " and " + strings.TrimSpace(pageEnd))
	}
	picture := ""
	if timed(r) {
		picture = "![Processor time of Traefik for a request, by route](performance.svg)\n\n"
	}
	return before + pageBegin + "\n" + picture + Markdown(r) + pageEnd + after, nil
}
