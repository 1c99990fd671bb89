package server

import (
	"maps"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
)

// State is what a server is doing at a moment.
type State struct {
	// Revision is that of the table in force, and PublishedAt when this server put
	// that in force; zero before the first.
	Revision    int64
	PublishedAt time.Time
	// Rows counts what is in that table.
	Rows Rows
	// Waiting is how many requests are being held until the table changes.
	Waiting int64
	// KeptOut says that the last change could not be read, so that the table
	// before it stays in force.
	KeptOut bool
	// Findings counts those of the manifests as last read, by their kind.
	Findings map[Kind]int
}

// Rows counts what is in a table.
type Rows struct{ APIs, Plans, Subscriptions, Applications, Keys int }

// Kind is what findings have in common.
type Kind struct {
	Severity finding.Severity
	Rule     finding.Rule
}

// State returns what the server is doing now.
func (s *Server) State() State {
	s.mu.RLock()
	defer s.mu.RUnlock()
	state := State{Waiting: s.waiting.Load(), KeptOut: s.health.KeptOut, Findings: maps.Clone(s.found)}
	if s.edition != nil {
		state.Revision, state.PublishedAt, state.Rows = s.edition.revision, s.edition.madeAt, s.edition.rows
	}
	return state
}

func countKinds(findings []finding.Finding) map[Kind]int {
	kinds := map[Kind]int{}
	for _, f := range findings {
		kinds[Kind{f.Severity, f.Rule}]++
	}
	return kinds
}
