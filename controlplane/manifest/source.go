package manifest

import (
	"slices"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
)

// Source is where an object and its fields stand.
type Source struct {
	origin *origin
	object finding.Object
	line   int32 // where the object begins, from its origin
	// fields are in the order of the document; the object itself is the first.
	// Objects that are written alike share them.
	fields []field
}

// origin is where the text begins that objects were parsed from.
type origin struct {
	file  string
	lines int // of the file before it
}

// field is the position of one field. Its line counts from that of the object.
type field struct {
	path         string
	line, column int32
}

// Ref names the object.
func (s *Source) Ref() finding.Object { return s.object }

// Position returns the file and the line where the object begins.
func (s *Source) Position() (file string, line int) {
	line, _ = s.at("")
	return s.origin.file, line
}

// Finding returns a finding about the object's field at path, such as
// spec.apiKeys[0].value, at the field's position or, where the manifest does not
// have the field, at that of the nearest one around it.
func (s *Source) Finding(rule finding.Rule, severity finding.Severity, path, problem, allowed, fix string) finding.Finding {
	line, column := s.at(path)
	return finding.Finding{
		Rule: rule, Severity: severity,
		File: s.origin.file, Line: line, Column: column, Object: s.object, Field: path,
		Problem: problem, Allowed: allowed, Fix: fix,
	}
}

// PlaintextKey returns the finding that there is no digest at path. It does not
// repeat what there is.
func (s *Source) PlaintextKey(path string) finding.Finding {
	return s.Finding(finding.PlaintextKey, finding.Error, path,
		"is not a digest, and probably a key in plain text; it is ignored", "128 hex digits: SHAKE-256 of the key, 64 bytes",
		"hash it with \"tollgate key hash\", and replace the key: it is no secret any more")
}

// has reports whether the manifest has the field at path.
func (s *Source) has(path string) bool {
	return slices.ContainsFunc(s.fields, func(f field) bool { return f.path == path })
}

func (s *Source) at(path string) (line, column int) {
	for {
		i := slices.IndexFunc(s.fields, func(f field) bool { return f.path == path })
		if i >= 0 {
			return s.origin.lines + int(s.line+s.fields[i].line), int(s.fields[i].column)
		}
		if path == "" {
			return 0, 0
		}
		path = around(path)
	}
}
