package report

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/url"
	"path/filepath"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/lint"
)

// What follows is the part of SARIF 2.1.0 that we have something to say in.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool       sarifTool     `json:"tool"`
		ColumnKind string        `json:"columnKind"`
		Results    []sarifResult `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name           string      `json:"name"`
		InformationURI string      `json:"informationUri"`
		Rules          []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID                   string             `json:"id"`
		ShortDescription     sarifText          `json:"shortDescription"`
		HelpURI              string             `json:"helpUri"`
		DefaultConfiguration sarifConfiguration `json:"defaultConfiguration"`
	}
	sarifConfiguration struct {
		Level string `json:"level"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifResult struct {
		RuleID              string            `json:"ruleId"`
		RuleIndex           int               `json:"ruleIndex"`
		Level               string            `json:"level"`
		Message             sarifText         `json:"message"`
		Locations           []sarifLocation   `json:"locations"`
		PartialFingerprints map[string]string `json:"partialFingerprints"`
	}
	sarifLocation struct {
		PhysicalLocation sarifPhysical  `json:"physicalLocation"`
		LogicalLocations []sarifLogical `json:"logicalLocations,omitempty"`
	}
	sarifPhysical struct {
		ArtifactLocation sarifArtifact `json:"artifactLocation"`
		Region           *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn,omitempty"`
	}
	sarifLogical struct {
		FullyQualifiedName string `json:"fullyQualifiedName"`
		Kind               string `json:"kind"`
	}
)

const (
	sarifSchema = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
	home        = "https://github.com/tollgate-apim/tollgate"
)

// sarif writes a log of one run, for code scanning.
func sarif(w io.Writer, r *Report, _ Options) error {
	run := sarifRun{
		Tool:       sarifTool{sarifDriver{Name: "tollgate", InformationURI: home}},
		ColumnKind: "unicodeCodePoints",
		Results:    []sarifResult{},
	}
	index := map[finding.Rule]int{}
	for i, rule := range lint.Rules() {
		index[rule.Name] = i
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{
			string(rule.Name), sarifText{rule.Summary}, rule.Link(), sarifConfiguration{level(rule.Severity)},
		})
	}
	for _, f := range r.Findings {
		sum := sha256.Sum256([]byte(lint.Fingerprint(f)))
		run.Results = append(run.Results, sarifResult{
			RuleID: string(f.Rule), RuleIndex: index[f.Rule], Level: level(f.Severity), Message: sarifText{f.Message()},
			Locations:           []sarifLocation{location(f)},
			PartialFingerprints: map[string]string{"tollgate/v1": hex.EncodeToString(sum[:16])},
		})
	}
	return encode(w, sarifLog{sarifSchema, "2.1.0", []sarifRun{run}})
}

// location says where a finding is. Paths stay relative where they are.
func location(f finding.Finding) sarifLocation {
	uri := url.URL{Path: filepath.ToSlash(f.File)}
	if filepath.IsAbs(f.File) {
		uri.Scheme = "file"
	}
	l := sarifLocation{PhysicalLocation: sarifPhysical{ArtifactLocation: sarifArtifact{uri.String()}}}
	if f.Line > 0 {
		l.PhysicalLocation.Region = &sarifRegion{f.Line, f.Column}
	}
	if f.Object != (finding.Object{}) {
		l.LogicalLocations = []sarifLogical{{f.Object.String(), "object"}}
	}
	return l
}

func level(s finding.Severity) string {
	if s == finding.Error {
		return "error"
	}
	return "warning"
}
