// Package usage is the contract of reports, by which gateways tell a control plane
// what they have admitted and refused: the wire types, what makes a report and its
// answer valid, and how large they may be. docs/reports.md describes the same
// contract in prose.
//
// A report tells what has happened since the last one that was accepted. Its
// sequence number makes it count once, however often it is sent.
package usage

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Path is where a sync endpoint takes reports, relative to its base URL.
const Path = "/v1/report"

// What a report may be. A gateway that has more to tell keeps it for the next.
const (
	// MaxBytes is the size of a report, in bytes of JSON after decompression.
	MaxBytes = 32 << 20
	// MaxRows is how many rows of usage a report has at most.
	MaxRows = 1 << 16
	// MaxCount is the largest count of a row, and the highest sequence number:
	// what every reader of JSON can hold exactly.
	MaxCount = 1<<53 - 1
)

// What an answer may ask for, in seconds.
const (
	MinNext = 0.1
	MaxNext = 3600
)

// maxText is how many bytes a name in a report has at most, and maxTitle the title
// of a key. Both are what manifests allow, and some more.
const (
	maxText  = 1024
	maxTitle = 4096
)

// maxElements is how many elements any list of a report has at most. It is more
// than each of them may have, so that those can tell what is wrong with them, and
// bounds what a list of next to nothing takes when it is decoded.
const maxElements = 2 * MaxRows

// maxProblem is how many characters of what is wrong with JSON are told: that may
// quote a number, which may be as long as the whole text.
const maxProblem = 200

// instanceDigits is the length of Report.Instance.
const instanceDigits = 32

// Report is what a gateway tells.
type Report struct {
	// Instance is 32 lower-case hex digits that one life of one gateway has
	// drawn.
	Instance string `json:"instance"`
	// Sequence is 1 for the first report of an instance and one more for each
	// further one. One that got no answer is sent again as it was.
	Sequence int64 `json:"sequence"`
	// Host is what the gateway's machine calls itself; it may be empty.
	Host string `json:"host,omitempty"`
	// Revision is that of the table in force; 0 before the first.
	Revision int64 `json:"revision"`
	// TableAge is how many seconds ago an endpoint last confirmed the table.
	TableAge float64 `json:"tableAge"`
	// Usage counts requests. No two rows differ in their count alone.
	Usage []Row `json:"usage"`
	// Sharing says that the gateway shares limits with others and wants to be told its
	// tenure, with or without entries.
	Sharing bool `json:"sharing,omitempty"`
	// Tenure is the number of the tenure that the gateway was told last; 0 before. The
	// entries are of that tenure: with another one they mean nothing.
	Tenure int64 `json:"tenure,omitempty"`
	// Entries tell of the buckets whose limits this gateway shares with others. No
	// two are of the same bucket and kind.
	Entries []Entry `json:"entries,omitempty"`
}

// Row counts requests that were alike.
type Row struct {
	// API is the namespace/name that the requests were for.
	API string `json:"api"`
	// Application, KeyTitle, Subscription and Plan are those of the caller, each
	// as the gateway's table names it. They are empty where it was not known.
	Application  string `json:"application,omitempty"`
	KeyTitle     string `json:"keyTitle,omitempty"`
	Subscription string `json:"subscription,omitempty"`
	Plan         string `json:"plan,omitempty"`
	// Code is the status that the gateway answered; 0 if it handed the request
	// on, because then it is for the upstream to answer.
	Code int `json:"code,omitempty"`
	// Reason is why requests were refused, as docs/configuration.md lists them;
	// empty if they were admitted.
	Reason string `json:"reason,omitempty"`
	// DryRun says that a dry run admitted what Reason would refuse.
	DryRun bool `json:"dryRun,omitempty"`
	// Count is how many there were, at least 1.
	Count int64 `json:"count"`
}

// Answer is what a control plane says to a report.
type Answer struct {
	// Sequence is the one of the report.
	Sequence int64 `json:"sequence"`
	// Next is in how many seconds the next report is wanted.
	Next float64 `json:"next"`
	// Tenure is there if the report is of a gateway that is sharing, or has entries,
	// and the control plane can share limits.
	Tenure *Tenure `json:"tenure,omitempty"`
	// Shares answer the report's entries, not necessarily all of them.
	Shares []Share `json:"shares,omitempty"`
}

// Decode returns the report that data holds as JSON, or an error that says what is
// wrong with it. Unknown fields are ignored, so that an older control plane can
// read a newer gateway.
func Decode(data []byte) (*Report, error) {
	if crowded(data, maxElements) {
		return nil, fmt.Errorf("decoding report: has a list of more than %d elements", maxElements)
	}
	r := &Report{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("decoding report: %.*s", maxProblem, err.Error())
	}
	if err := validate(r); err != nil {
		return nil, fmt.Errorf("validating report: %w", err)
	}
	return r, nil
}

// crowded says whether a list, or an object, that is directly in the object that data
// holds as JSON has more elements than most. Of what is no JSON it says anything.
func crowded(data []byte, most int) bool {
	if bytes.Count(data, []byte{','}) < most {
		return false
	}
	depth, commas, quoted := 0, 0, false
	for i := 0; i < len(data); i++ {
		c := data[i]
		switch {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			if depth == 2 {
				commas = 0
			}
		case c == '}' || c == ']':
			depth--
		case c == ',' && depth == 2:
			commas++
			if commas == most {
				return true
			}
		}
	}
	return false
}

func validate(r *Report) error {
	if len(r.Instance) != instanceDigits || strings.Trim(r.Instance, "0123456789abcdef") != "" {
		return fmt.Errorf("instance: %.40q, must be %d lower-case hex digits", r.Instance, instanceDigits)
	}
	if r.Sequence < 1 || r.Sequence > MaxCount {
		return fmt.Errorf("sequence: %d, must be from 1 to %d", r.Sequence, int64(MaxCount))
	}
	if len(r.Host) > maxText {
		return fmt.Errorf("host: has %d bytes, must have at most %d", len(r.Host), maxText)
	}
	if r.Revision < 0 {
		return fmt.Errorf("revision: %d, must be 0 or more", r.Revision)
	}
	if r.TableAge < 0 {
		return fmt.Errorf("tableAge: %g, must be 0 or more", r.TableAge)
	}
	if len(r.Usage) > MaxRows {
		return fmt.Errorf("usage: %d rows, must be at most %d", len(r.Usage), MaxRows)
	}
	for i := range r.Usage {
		if err := validateRow(&r.Usage[i]); err != nil {
			return fmt.Errorf("usage[%d].%w", i, err)
		}
	}
	if r.Tenure < 0 || r.Tenure > MaxCount {
		return fmt.Errorf("tenure: %d, must be from 0 to %d", r.Tenure, int64(MaxCount))
	}
	if len(r.Entries) > MaxEntries {
		return fmt.Errorf("entries: %d, must be at most %d", len(r.Entries), MaxEntries)
	}
	for i := range r.Entries {
		if err := validateEntry(&r.Entries[i]); err != nil {
			return fmt.Errorf("entries[%d].%w", i, err)
		}
	}
	return nil
}

func validateRow(row *Row) error {
	if row.API == "" {
		return errors.New("api: missing")
	}
	for _, name := range []struct {
		field, value string
		most         int
	}{
		{"api", row.API, maxText},
		{"application", row.Application, maxText},
		{"keyTitle", row.KeyTitle, maxTitle},
		{"subscription", row.Subscription, maxText},
		{"plan", row.Plan, maxText},
		{"reason", row.Reason, maxText},
	} {
		if len(name.value) > name.most {
			return fmt.Errorf("%s: has %d bytes, must have at most %d", name.field, len(name.value), name.most)
		}
	}
	if row.Code != 0 && (row.Code < 100 || row.Code > 599) {
		return fmt.Errorf("code: %d, must be 0 or from 100 to 599", row.Code)
	}
	if row.Count < 1 || row.Count > MaxCount {
		return fmt.Errorf("count: %d, must be from 1 to %d", row.Count, int64(MaxCount))
	}
	return nil
}

// Shorten returns row with what is longer than a report may have cut. What was
// different stays so.
func Shorten(row Row) Row {
	row.API = shortened(row.API, maxText)
	row.Application = shortened(row.Application, maxText)
	row.KeyTitle = shortened(row.KeyTitle, maxTitle)
	row.Subscription = shortened(row.Subscription, maxText)
	row.Plan = shortened(row.Plan, maxText)
	return row
}

// ShortenBucket returns the name of a bucket as an Entry has it: every gateway cuts a
// long one to the same.
func ShortenBucket(bucket string) string { return shortened(bucket, maxBucket) }

// shortened returns text with at most so many bytes: of a longer one the beginning, and
// a sum of the whole.
func shortened(text string, most int) string {
	if len(text) <= most {
		return text
	}
	sum := sha256.Sum256([]byte(text))
	end := "…" + hex.EncodeToString(sum[:16])
	return strings.ToValidUTF8(text[:most-len(end)], "") + end
}

// DecodeAnswer returns the answer to the report of a sequence number that data
// holds as JSON, or an error that says what is wrong with it.
func DecodeAnswer(data []byte, sequence int64) (*Answer, error) {
	a := &Answer{}
	if err := json.Unmarshal(data, a); err != nil {
		return nil, fmt.Errorf("decoding answer: %.*s", maxProblem, err.Error())
	}
	if a.Sequence != sequence {
		return nil, fmt.Errorf("sequence: %d, must be that of the report, %d", a.Sequence, sequence)
	}
	if !(a.Next >= MinNext && a.Next <= MaxNext) {
		return nil, fmt.Errorf("next: %g, must be from %g to %d", a.Next, MinNext, MaxNext)
	}
	if a.Tenure != nil {
		if err := validateTenure(a.Tenure); err != nil {
			return nil, err
		}
	}
	if len(a.Shares) > MaxEntries {
		return nil, fmt.Errorf("shares: %d, must be at most %d", len(a.Shares), MaxEntries)
	}
	for i := range a.Shares {
		if err := validateShare(&a.Shares[i]); err != nil {
			return nil, fmt.Errorf("shares[%d].%w", i, err)
		}
	}
	return a, nil
}
