package table

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

const (
	tablesDir = "../testdata/tables"
	partsDir  = "../testdata/parts"
)

func TestDecodeGood(t *testing.T) {
	for name, data := range files(t, tablesDir, "good") {
		if _, err := Decode(data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDecodeWeather(t *testing.T) {
	got, err := Decode(files(t, tablesDir, "good")["weather"])
	if err != nil {
		t.Fatal(err)
	}
	if got.Revision != 42 {
		t.Errorf("revision: got %d, want 42", got.Revision)
	}
	if want := time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC); !got.IssuedAt.Equal(want) {
		t.Errorf("issuedAt: got %s, want %s", got.IssuedAt, want)
	}
	plan := got.Plans["apps/standard-plan"]
	if plan.Title != "Standard" || plan.RateLimit == nil || plan.Quota == nil {
		t.Fatalf("plan: got %+v", plan)
	}
	if want := (RateLimit{Limit: 10, Period: "1s", Burst: 10, Bucket: BucketSubscription}); *plan.RateLimit != want {
		t.Errorf("rate limit: got %+v, want %+v", *plan.RateLimit, want)
	}
	if want := (Quota{Limit: 1000, Period: "720h", Bucket: BucketApplication}); *plan.Quota != want {
		t.Errorf("quota: got %+v, want %+v", *plan.Quota, want)
	}
	set := got.APIs["apps/weather-api"].OperationSets["read"]
	if len(set) != 1 || set[0].PathPrefix != "/weather" || strings.Join(set[0].Methods, " ") != "GET" {
		t.Errorf("operation set: got %+v", set)
	}
	sub := got.Subscriptions["apps/weather-mobile-sub"]
	if sub.Plan != "apps/standard-plan" || sub.OperationFilter == nil || strings.Join(sub.OperationFilter.Include, " ") != "read" {
		t.Errorf("subscription: got %+v", sub)
	}
	app := got.Applications["apps/weather-mobile"]
	if app.AppID != "weather-mobile" || app.Owner != "67f67907ee260b44336a952e" || app.Grants["apps/weather-api"] != "apps/weather-mobile-sub" {
		t.Errorf("application: got %+v", app)
	}
	for digest, holders := range got.Keys {
		if len(digest) != 128 || len(holders) != 1 || holders[0] != (Holder{Application: "apps/weather-mobile", Title: "mobile-key"}) {
			t.Errorf("key: got %s: %+v", digest, holders)
		}
	}
}

func TestDecodeFilterAbsentAndEmpty(t *testing.T) {
	got, err := Decode(files(t, tablesDir, "good")["filter_absent_and_empty"])
	if err != nil {
		t.Fatal(err)
	}
	if f := got.Subscriptions["apps/all"].OperationFilter; f != nil {
		t.Errorf("absent filter: got %+v, want none", *f)
	}
	if f := got.Subscriptions["apps/none"].OperationFilter; f == nil || len(f.Include) != 0 {
		t.Errorf("empty filter: got %+v, want one that allows nothing", f)
	}
}

// badTables tells, for each file in testdata/tables/bad, what its error says.
var badTables = []struct{ name, want string }{
	{"nothing", "unexpected end of JSON input"},
	{"truncated", "unexpected end of JSON input"},
	{"trailing_text", "after top-level value"},
	{"html", "invalid character '<'"},
	{"null", "plans: missing"},
	{"list", "cannot unmarshal array"},
	{"error_object", "revision: 0, must be 1 or more"},
	{"byte_order_mark", "invalid character"},
	{"revision_missing", "revision: 0, must be 1 or more"},
	{"revision_zero", "revision: 0, must be 1 or more"},
	{"revision_negative", "revision: -1, must be 1 or more"},
	{"revision_fraction", "cannot unmarshal number 1.5"},
	{"revision_text", "revision of type int64"},
	{"revision_too_large", "cannot unmarshal number 9223372036854775808"},
	{"issued_at_missing", "issuedAt: missing"},
	{"issued_at_no_time", `parsing time "yesterday"`},
	{"plans_null", "plans: missing, must be an object"},
	{"apis_missing", "apis: missing, must be an object"},
	{"subscriptions_missing", "subscriptions: missing, must be an object"},
	{"applications_missing", "applications: missing, must be an object"},
	{"keys_missing", "keys: missing, must be an object"},
	{"keys_list", "cannot unmarshal array"},
	{"holder_text", "cannot unmarshal string"},
	{"grants_list", "cannot unmarshal array"},
	{"suspended_text", "cannot unmarshal string"},
	{"rate_limit_negative", "plans.apps/p.rateLimit.limit: -1, must be 0 to 1000000000"},
	{"rate_limit_too_large", "plans.apps/p.rateLimit.limit: 1000000001, must be 0 to 1000000000"},
	{"rate_period_missing", `plans.apps/p.rateLimit.period: "", must be a duration from 1s to 1h`},
	{"rate_period_days", `plans.apps/p.rateLimit.period: "1d", must be a duration`},
	{"rate_period_short", `plans.apps/p.rateLimit.period: "999ms", must be a duration`},
	{"rate_period_long", `plans.apps/p.rateLimit.period: "61m", must be a duration`},
	{"rate_bucket_unknown", `plans.apps/p.rateLimit.bucket: "owner", must be subscription, application or application-api`},
	{"burst_negative", "plans.apps/p.rateLimit.burst: -1, must be 0 to 1000000000"},
	{"burst_too_large", "plans.apps/p.rateLimit.burst: 1000000001, must be 0 to 1000000000"},
	{"quota_negative", "plans.apps/p.quota.limit: -1, must be 0 to 999999999999999"},
	{"quota_too_large", "plans.apps/p.quota.limit: 1000000000000000, must be"},
	{"quota_period_long", `plans.apps/p.quota.period: "10000h", must be a duration from 1s to 9999h`},
	{"quota_period_number", "cannot unmarshal number"},
	{"quota_bucket_unknown", `plans.apps/p.quota.bucket: "Application", must be`},
	{"matcher_empty", "apis.apps/x.operationSets.s[0]: is empty"},
	{"matcher_two_paths", "apis.apps/x.operationSets.s[0]: has several of path"},
	{"matcher_path_relative", `apis.apps/x.operationSets.s[0].path: "a", must begin with a slash`},
	{"matcher_prefix_relative", `apis.apps/x.operationSets.s[0].pathPrefix: "a/", must begin with a slash`},
	{"matcher_regex_broken", "apis.apps/x.operationSets.s[0].pathRegex: error parsing regexp"},
	{"matcher_regex_exploding", "apis.apps/x.operationSets.s[0].pathRegex: error parsing regexp"},
	{"parts_three", "parts: 3, must be a power of two up to 65536"},
	{"parts_none", "keys: missing, must be an object"},
	{"parts_null", "keys: missing, must be an object"},
	{"parts_object", "cannot unmarshal object"},
	{"parts_numbers", "cannot unmarshal number"},
	{"parts_and_keys", "keys: stands beside parts, must be in them"},
	{"parts_and_sections", "applications: stands beside parts, must be in them; keys: stands"},
	{"parts_sum_short", `parts[1]: "000000000000000000000000000000000000000000000000000000000000002", must be a SHA-256 in 64 lower-case hex digits`},
	{"parts_sum_long", `0002…", must be a SHA-256`},
	{"parts_sum_empty", `parts[1]: "", must be a SHA-256`},
	{"parts_sum_upper", `000A", must be a SHA-256`},
	{"parts_sum_path", `parts[1]: "../`},
	{"index_without_plans", "plans: missing, must be an object"},
	{"plan_name_long", "ppp…: the name has 1025 bytes, must have at most 1024"},
	{"api_name_long", "aaa…: the name has 1025 bytes, must have at most 1024"},
	{"index_plan_bad", "plans.apps/p.quota.limit: -1, must be 0 to 999999999999999"},
	{"many_problems", "apps/p08.quota.limit: -1, must be 0 to 999999999999999; and 4 more"},
}

func TestDecodeBad(t *testing.T) {
	bad := files(t, tablesDir, "bad")
	for _, row := range badTables {
		data, ok := bad[row.name]
		if !ok {
			t.Errorf("%s: no such file", row.name)
			continue
		}
		delete(bad, row.name)
		got, err := Decode(data)
		if err == nil {
			t.Errorf("%s: got no error, want one with %q", row.name, row.want)
			continue
		}
		if got != nil {
			t.Errorf("%s: got a table beside the error", row.name)
		}
		if !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %q, want %q in it", row.name, err, row.want)
		}
	}
	for name := range bad {
		t.Errorf("%s: a file without a row in this test", name)
	}
}

// The examples in the documentation are a table, and the same in parts.
func TestDocumentation(t *testing.T) {
	page, err := os.ReadFile("../docs/sync.md")
	if err != nil {
		t.Fatal(err)
	}
	var tables []*Table
	var parts []*Part
	for i, block := range strings.Split(string(page), "```json\n")[1:] {
		example := []byte(strings.SplitN(block, "```", 2)[0])
		if bytes.HasPrefix(example, []byte(partHead)) {
			parts = append(parts, parse(t, [][]byte{example})...)
			continue
		}
		decoded, err := Decode(example)
		if err != nil {
			t.Fatalf("example %d: %v", i+1, err)
		}
		tables = append(tables, decoded)
	}
	if len(tables) != 2 {
		t.Fatalf("got %d tables, want a whole one and an index", len(tables))
	}
	got, err := Assemble(tables[1], parts)
	if err != nil {
		t.Fatal(err)
	}
	want := inParts(t, tables[0], len(parts))
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v in parts, want %+v", got, want)
	}
}

func TestRead(t *testing.T) {
	rows := []struct {
		name     string
		maxBytes int64
		want     error
	}{
		{"under the cap", 6, nil},
		{"at the cap", 5, nil},
		{"over the cap", 4, ErrTooLarge},
		{"no bytes allowed", 0, ErrTooLarge},
		{"the largest cap", math.MaxInt64, nil},
	}
	for _, row := range rows {
		got, err := Read(strings.NewReader("table"), row.maxBytes)
		if !errors.Is(err, row.want) {
			t.Errorf("%s: got error %v, want %v", row.name, err, row.want)
		}
		if err == nil && string(got) != "table" {
			t.Errorf("%s: got %q", row.name, got)
		}
	}
}

// No more is read than shows that the cap is passed, however much there is.
func TestReadStopsAtTheCap(t *testing.T) {
	long := strings.NewReader(strings.Repeat("x", 1000))
	if _, err := Read(long, 10); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got error %v, want %v", err, ErrTooLarge)
	}
	if want := 1000 - 11; long.Len() != want {
		t.Errorf("got %d bytes left unread, want %d", long.Len(), want)
	}
}

func TestReadBroken(t *testing.T) {
	broken, writer := io.Pipe()
	cause := errors.New("cable cut")
	_ = writer.CloseWithError(cause)
	if _, err := Read(broken, 10); !errors.Is(err, cause) {
		t.Errorf("got error %v, want %v", err, cause)
	}
}

// Whatever Decode takes is valid and survives a round trip; it never panics.
func FuzzDecode(f *testing.F) {
	for _, kind := range []string{"good", "bad"} {
		for _, data := range files(f, tablesDir, kind) {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		first, err := Decode(data)
		if err != nil {
			if first != nil {
				t.Fatalf("got a table beside the error %v", err)
			}
			return
		}
		inParts := len(first.Parts) > 0
		if rows := first.Keys != nil || first.Applications != nil || first.Subscriptions != nil; rows == inParts || LoadedParts(first) != nil {
			t.Fatalf("got rows %t beside %d parts, %d of them loaded", rows, len(first.Parts), len(LoadedParts(first)))
		}
		once, err := json.Marshal(first)
		if err != nil {
			t.Fatalf("encoding what was decoded: %v", err)
		}
		second, err := Decode(once)
		if err != nil {
			t.Fatalf("decoding what was encoded: %v", err)
		}
		twice, err := json.Marshal(second)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(once, twice) {
			t.Fatalf("got %s after a round trip, want %s", twice, once)
		}
	})
}

// files returns the files of a kind in a folder, by name.
func files(t testing.TB, dir, kind string) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, kind, "*.json"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no %s files in %s: %v", kind, dir, err)
	}
	found := map[string][]byte{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		found[strings.TrimSuffix(filepath.Base(path), ".json")] = data
	}
	return found
}
