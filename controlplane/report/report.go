// Package report writes what linting found, in the formats that people and
// programs read.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/tollgate-apim/tollgate/controlplane/access"
	"github.com/tollgate-apim/tollgate/controlplane/finding"
)

// Report is what there is to tell.
type Report struct {
	Findings []finding.Finding
	Ignored  int
	// Change is nil unless a change was looked at. Findings are then only those
	// that it brings.
	Change *Change
}

// Change is what becomes of manifests since a revision.
type Change struct {
	Base   string
	Gone   []finding.Finding
	Access []access.Change
}

// Options say how to write a text.
type Options struct {
	Colour bool
	// Line returns a line of a file, from 1, or false where it is not to be had.
	Line func(file string, line int) (string, bool)
}

// formats are the writers by name.
var formats = map[string]func(io.Writer, *Report, Options) error{
	"checkstyle": checkstyle,
	"github":     github,
	"json":       asJSON,
	"markdown":   markdown,
	"sarif":      sarif,
	"text":       text,
}

// Formats returns the names of all formats, in order.
func Formats() []string {
	var names []string
	for name := range formats {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Write writes r in a format of Formats.
func Write(w io.Writer, format string, r *Report, o Options) error {
	write, ok := formats[format]
	if !ok {
		return fmt.Errorf("unknown format %q", format)
	}
	return write(w, r, o)
}

// asJSON writes an object with the findings, and of a change also those that are
// gone and what becomes of applications.
func asJSON(w io.Writer, r *Report, _ Options) error {
	type change struct {
		Base   string            `json:"base"`
		Gone   []finding.Finding `json:"gone"`
		Access []access.Change   `json:"access"`
	}
	out := struct {
		Findings []finding.Finding `json:"findings"`
		Errors   int               `json:"errors"`
		Warnings int               `json:"warnings"`
		Ignored  int               `json:"ignored"`
		Change   *change           `json:"change,omitempty"`
	}{Findings: append([]finding.Finding{}, r.Findings...), Ignored: r.Ignored}
	out.Errors, out.Warnings = finding.Count(r.Findings)
	if c := r.Change; c != nil {
		out.Change = &change{c.Base, append([]finding.Finding{}, c.Gone...), append([]access.Change{}, c.Access...)}
	}
	return encode(w, out)
}

func encode(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// count says how many there are: "1 error", "2 errors".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
