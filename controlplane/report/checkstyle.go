package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"path/filepath"
)

// checkstyle writes the XML of Checkstyle, which many servers read.
func checkstyle(w io.Writer, r *Report, _ Options) error {
	type violation struct {
		Line     int    `xml:"line,attr,omitempty"`
		Column   int    `xml:"column,attr,omitempty"`
		Severity string `xml:"severity,attr"`
		Message  string `xml:"message,attr"`
		Source   string `xml:"source,attr"`
	}
	type file struct {
		Name       string      `xml:"name,attr"`
		Violations []violation `xml:"error"`
	}
	out := struct {
		XMLName xml.Name `xml:"checkstyle"`
		Version string   `xml:"version,attr"`
		Files   []file   `xml:"file"`
	}{Version: "8.0"}
	for _, f := range r.Findings {
		name := filepath.ToSlash(f.File)
		if n := len(out.Files); n == 0 || out.Files[n-1].Name != name {
			out.Files = append(out.Files, file{Name: name})
		}
		at := &out.Files[len(out.Files)-1]
		at.Violations = append(at.Violations, violation{f.Line, f.Column, level(f.Severity), f.Message(), "tollgate." + string(f.Rule)})
	}
	encoded, err := xml.MarshalIndent(out, "", "  ")
	if err != nil {
		return fmt.Errorf("writing XML: %w", err)
	}
	_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, encoded)
	return err
}
