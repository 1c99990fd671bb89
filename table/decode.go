package table

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"sort"
	"strings"
	"time"
)

// What a limit may be. The upper bounds keep the arithmetic of package quota
// exact and the amounts within RFC 9651's integers.
const (
	MinPeriod      = time.Second
	MaxRatePeriod  = time.Hour
	MaxQuotaPeriod = 9999 * time.Hour
	MaxRateLimit   = 1_000_000_000
	MaxQuotaLimit  = 999_999_999_999_999
)

// MaxName is how many bytes the name of a plan or an API has at most: what reports can
// tell.
const MaxName = 1024

// maxProblems is how many problems one error tells.
const maxProblems = 10

// ErrTooLarge says that a table has more bytes than the reader's cap.
var ErrTooLarge = errors.New("table is larger than allowed")

// Read returns all of r, or ErrTooLarge when r holds more than maxBytes.
func Read(r io.Reader, maxBytes int64) ([]byte, error) {
	if maxBytes == math.MaxInt64 {
		maxBytes-- // one byte more than the cap is asked for
	}
	data, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading table: %w", err)
	}
	if int64(len(data)) > maxBytes {
		return nil, fmt.Errorf("%w: over %d bytes", ErrTooLarge, maxBytes)
	}
	return data, nil
}

// Decode returns the table or index that data holds as JSON, or an error that
// says what is wrong with it. Unknown fields are ignored, so that a newer control plane
// can serve an older gateway.
func Decode(data []byte) (*Table, error) {
	t := &Table{}
	if err := json.Unmarshal(data, t); err != nil {
		return nil, fmt.Errorf("decoding table: %w", err)
	}
	if err := Validate(t); err != nil {
		return nil, fmt.Errorf("validating table: %w", err)
	}
	return t, nil
}

// Validate tells what is wrong with t: everything at once, up to a readable
// number of problems.
//
// It looks at the head, at plans and at operation sets. Applications,
// subscriptions and keys are not looked at, because there may be millions of
// them: a row there that points at nothing refuses at request time.
func Validate(t *Table) error {
	problems := headProblems(t)
	for name, plan := range t.Plans {
		if len(name) > MaxName {
			problems = append(problems, longName("plans", name))
		}
		problems = append(problems, planProblems("plans."+name, plan)...)
	}
	for name, api := range t.APIs {
		if len(name) > MaxName {
			problems = append(problems, longName("apis", name))
		}
		for set, matchers := range api.OperationSets {
			for i, m := range matchers {
				at := fmt.Sprintf("apis.%s.operationSets.%s[%d]", name, set, i)
				problems = append(problems, matcherProblems(at, m)...)
			}
		}
	}
	if len(problems) == 0 {
		return nil
	}
	sort.Strings(problems)
	if more := len(problems) - maxProblems; more > 0 {
		problems = append(problems[:maxProblems], fmt.Sprintf("and %d more", more))
	}
	return errors.New(strings.Join(problems, "; "))
}

func headProblems(t *Table) []string {
	var problems []string
	if t.Revision < 1 {
		problems = append(problems, fmt.Sprintf("revision: %d, must be 1 or more", t.Revision))
	}
	if t.IssuedAt.IsZero() {
		problems = append(problems, "issuedAt: missing")
	}
	// A body that lacks a section is more likely something else than a table.
	for _, section := range []struct {
		name             string
		missing, inParts bool
	}{
		{"plans", t.Plans == nil, false},
		{"apis", t.APIs == nil, false},
		{"subscriptions", t.Subscriptions == nil, true},
		{"applications", t.Applications == nil, true},
		{"keys", t.Keys == nil, true},
	} {
		if inParts := section.inParts && len(t.Parts) > 0; section.missing && !inParts {
			problems = append(problems, section.name+": missing, must be an object")
		} else if inParts && !section.missing {
			problems = append(problems, section.name+": stands beside parts, must be in them")
		}
	}
	return append(problems, partsProblems(t.Parts)...)
}

// partsProblems may be given tens of thousands of sums, so the digits are left
// to compiled code.
func partsProblems(parts []string) []string {
	n := len(parts)
	if n > MaxParts || n&(n-1) != 0 {
		return []string{fmt.Sprintf("parts: %d, must be a power of two up to %d", n, MaxParts)}
	}
	for i, sum := range parts {
		if len(sum) != sumDigits {
			return []string{badSum(i, sum)}
		}
	}
	all := strings.Join(parts, "")
	if strings.Trim(all, lowerHex) == "" {
		return nil
	}
	for i, sum := range parts {
		if strings.Trim(sum, lowerHex) != "" {
			return []string{badSum(i, sum)}
		}
	}
	return nil
}

func badSum(i int, sum string) string {
	if len(sum) > sumDigits {
		sum = sum[:sumDigits] + "…"
	}
	return fmt.Sprintf("parts[%d]: %q, must be a SHA-256 in %d lower-case hex digits", i, sum, sumDigits)
}

func longName(section, name string) string {
	return fmt.Sprintf("%s.%.40s…: the name has %d bytes, must have at most %d", section, name, len(name), MaxName)
}

func planProblems(at string, p Plan) []string {
	var problems []string
	if r := p.RateLimit; r != nil {
		problems = append(problems, limitProblems(at+".rateLimit", r.Limit, MaxRateLimit, r.Period, MaxRatePeriod, r.Bucket)...)
		if r.Burst < 0 || r.Burst > MaxRateLimit {
			problems = append(problems, fmt.Sprintf("%s.rateLimit.burst: %d, must be 0 to %d", at, r.Burst, MaxRateLimit))
		}
	}
	if q := p.Quota; q != nil {
		problems = append(problems, limitProblems(at+".quota", q.Limit, MaxQuotaLimit, q.Period, MaxQuotaPeriod, q.Bucket)...)
	}
	return problems
}

func limitProblems(at string, limit, maxLimit int64, period string, maxPeriod time.Duration, bucket string) []string {
	var problems []string
	if limit < 0 || limit > maxLimit {
		problems = append(problems, fmt.Sprintf("%s.limit: %d, must be 0 to %d", at, limit, maxLimit))
	}
	d, err := time.ParseDuration(period)
	if err != nil || d < MinPeriod || d > maxPeriod {
		problems = append(problems, fmt.Sprintf("%s.period: %q, must be a duration from %s to %s", at, period, MinPeriod, maxPeriod))
	}
	switch bucket {
	case "", BucketSubscription, BucketApplication, BucketApplicationAPI:
	default:
		problems = append(problems, fmt.Sprintf("%s.bucket: %q, must be %s, %s or %s",
			at, bucket, BucketSubscription, BucketApplication, BucketApplicationAPI))
	}
	return problems
}

func matcherProblems(at string, m Matcher) []string {
	var problems []string
	criteria := 0
	for _, c := range []struct{ field, value string }{{"path", m.Path}, {"pathPrefix", m.PathPrefix}, {"pathRegex", m.PathRegex}} {
		if c.value == "" {
			continue
		}
		criteria++
		if c.field != "pathRegex" && c.value[0] != '/' {
			problems = append(problems, fmt.Sprintf("%s.%s: %q, must begin with a slash", at, c.field, c.value))
		}
	}
	if criteria > 1 {
		problems = append(problems, at+": has several of path, pathPrefix and pathRegex, must have at most one")
	}
	if criteria == 0 && len(m.Methods) == 0 {
		problems = append(problems, at+": is empty, must have a path criterion or methods")
	}
	if _, err := regexp.Compile(m.PathRegex); err != nil {
		problems = append(problems, fmt.Sprintf("%s.pathRegex: %v", at, err))
	}
	return problems
}
