package usage

import (
	"encoding/json"
	"strings"
	"testing"
)

const instance = "0123456789abcdef0123456789abcdef"

// body returns a report as JSON, with some of its text replaced.
func body(replace ...string) string {
	return strings.NewReplacer(replace...).Replace(`{
		"instance": "` + instance + `", "sequence": 17, "host": "gw-1", "revision": 42, "tableAge": 3.5,
		"usage": [
			{"api": "apps/api", "application": "apps/a", "keyTitle": "t", "subscription": "apps/s", "plan": "apps/p", "count": 12},
			{"api": "apps/api", "code": 401, "reason": "key_invalid", "count": 3}
		]}`)
}

func TestDecode(t *testing.T) {
	r, err := Decode([]byte(body()))
	if err != nil {
		t.Fatal(err)
	}
	if r.Instance != instance || r.Sequence != 17 || r.Host != "gw-1" || r.Revision != 42 || r.TableAge != 3.5 || len(r.Usage) != 2 {
		t.Errorf("got %+v", r)
	}
	if want := (Row{API: "apps/api", Application: "apps/a", KeyTitle: "t", Subscription: "apps/s", Plan: "apps/p", Count: 12}); r.Usage[0] != want {
		t.Errorf("got %+v, want %+v", r.Usage[0], want)
	}
	if want := (Row{API: "apps/api", Code: 401, Reason: "key_invalid", Count: 3}); r.Usage[1] != want {
		t.Errorf("got %+v, want %+v", r.Usage[1], want)
	}
	if _, err := Decode([]byte(body(`"host": "gw-1"`, `"host": "gw-1", "unknown": {}`))); err != nil {
		t.Errorf("a field that is not known: got %v", err)
	}
}

func TestDecodeTellsWhatIsWrong(t *testing.T) {
	for _, test := range []struct{ old, new, want string }{
		{`"` + instance + `"`, `"0123"`, `instance: "0123", must be 32 lower-case hex digits`},
		{`"` + instance + `"`, `"` + strings.ToUpper(instance) + `"`, "must be 32 lower-case hex digits"},
		{`"sequence": 17`, `"sequence": 0`, "sequence: 0, must be from 1"},
		{`"sequence": 17`, `"sequence": 9007199254740992`, "must be from 1 to 9007199254740991"},
		{`"sequence": 17`, `"sequence": "17"`, "decoding report"},
		{`"gw-1"`, `"` + strings.Repeat("h", 1025) + `"`, "host: has 1025 bytes, must have at most 1024"},
		{`"revision": 42`, `"revision": -1`, "revision: -1, must be 0 or more"},
		{`"tableAge": 3.5`, `"tableAge": -3.5`, "tableAge: -3.5, must be 0 or more"},
		{`"api": "apps/api", "code"`, `"code"`, "usage[1].api: missing"},
		{`"apps/a"`, `"` + strings.Repeat("a", 1025) + `"`, "usage[0].application: has 1025 bytes"},
		{`"t"`, `"` + strings.Repeat("t", 4097) + `"`, "usage[0].keyTitle: has 4097 bytes, must have at most 4096"},
		{`401`, `99`, "usage[1].code: 99, must be 0 or from 100 to 599"},
		{`"count": 3`, `"count": 0`, "usage[1].count: 0, must be from 1"},
		{`"count": 3`, `"count": -3`, "usage[1].count: -3, must be from 1"},
	} {
		_, err := Decode([]byte(body(test.old, test.new)))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.new, err, test.want)
		}
	}
	many := &Report{Instance: instance, Sequence: 1, Usage: make([]Row, MaxRows+1)}
	data, err := json.Marshal(many)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decode(data); err == nil || !strings.Contains(err.Error(), "usage: 65537 rows, must be at most 65536") {
		t.Errorf("too many rows: got %v", err)
	}
}

// TestCrowded has lists of next to nothing, which would take many times their text
// in memory.
func TestCrowded(t *testing.T) {
	for _, test := range []struct {
		data string
		want bool
	}{
		{`{"a": [1, 2, 3]}`, false},
		{`{"a": [1, 2, 3, 4]}`, true},
		{`{"a": [1, 2, 3], "b": [1, 2, 3]}`, false},
		{`{"a": [1], "b": [{}, {}, {}, {}], "c": []}`, true},
		{`{"a": [{"a": 1, "b": [2, 3]}, [4, 5], 6]}`, false},
		{`{"a": [{"a": 1, "b": [2, 3]}, [4, 5], 6, 7]}`, true},
		{`{"a": {"a": 1, "b": 2, "c": 3, "d": 4}}`, true},
		{`{"a": "1,2,3,4", "b": [",,", ",\",", "\\"]}`, false},
		{`{"a": ["[", "]", "\"[", "\\", 5]}`, true},
		{`{"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}`, false},
		{`,,,,,,`, false},
		{`]]],,,,"\`, false},
	} {
		if got := crowded([]byte(test.data), 3); got != test.want {
			t.Errorf("%s: got %t", test.data, got)
		}
	}
	data := []byte(`{"instance": "` + instance + `", "sequence": 1, "usage": [` + strings.Repeat("1,", maxElements) + `1]}`)
	if _, err := Decode(data); err == nil || !strings.Contains(err.Error(), "decoding report: has a list of more than 131072 elements") {
		t.Errorf("got %v", err)
	}
}

// TestProblemsAreShort has JSON of which errors quote as much as they like.
func TestProblemsAreShort(t *testing.T) {
	long := strings.Repeat("1", 1<<16)
	if _, err := Decode([]byte(body("17", long))); err == nil || len(err.Error()) > 300 || !strings.Contains(err.Error(), "cannot unmarshal number 111") {
		t.Errorf("a report: got %.400v", err)
	}
	if _, err := DecodeAnswer([]byte(`{"sequence": `+long+`}`), 17); err == nil || len(err.Error()) > 300 {
		t.Errorf("an answer: got %.400v", err)
	}
}

func TestDecodeAnswer(t *testing.T) {
	a, err := DecodeAnswer([]byte(`{"sequence": 17, "next": 2.5, "unknown": 1}`), 17)
	if err != nil || a.Next != 2.5 {
		t.Errorf("got %+v, %v", a, err)
	}
	for data, want := range map[string]string{
		`{"sequence": 16, "next": 1}`:   "sequence: 16, must be that of the report, 17",
		`{"sequence": 17}`:              "next: 0, must be from 0.1 to 3600",
		`{"sequence": 17, "next": -1}`:  "next: -1",
		`{"sequence": 17, "next": 1e9}`: "next: 1e+09",
		`<html>`:                        "decoding answer",
	} {
		if _, err := DecodeAnswer([]byte(data), 17); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", data, err, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(body()))
	f.Add([]byte(entries()))
	f.Add([]byte(`{}`))
	f.Add([]byte(body("17", "1e400")))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Decode(data)
		if err != nil {
			return
		}
		// What was accepted says the same when it is said again.
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(again); err != nil {
			t.Errorf("%s is accepted, and %s is not: %v", data, again, err)
		}
	})
}

func FuzzDecodeAnswer(f *testing.F) {
	f.Add([]byte(`{"sequence": 17, "next": 2.5}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if a, err := DecodeAnswer(data, 17); err == nil && (a.Sequence != 17 || a.Next < MinNext || a.Next > MaxNext) {
			t.Errorf("accepted %+v", a)
		}
	})
}

// What is longer than a report may have is cut, between two letters, and ends with a sum
// that keeps it apart from what begins alike.
func TestShorten(t *testing.T) {
	long := strings.Repeat("é", 5000)
	row := Shorten(Row{API: "a" + long, Application: long, KeyTitle: long, Subscription: long, Plan: long, Code: 429, Reason: "r", DryRun: true, Count: 1})
	const sum = "…349e5086ea495fe725baa7b08612d860"
	if want := strings.Repeat("é", 494) + sum; row.Application != want || row.Subscription != want || row.Plan != want ||
		!strings.HasPrefix(row.API, "a"+strings.Repeat("é", 494)+"…") || row.KeyTitle != strings.Repeat("é", 2030)+sum {
		t.Errorf("got %+v", row)
	}
	if other := Shorten(Row{API: "apps/a", Application: long + "x", Count: 1}); other.Application == row.Application || len(other.Application) > maxText {
		t.Errorf("got %s for two names", other.Application)
	}
	if bucket := ShortenBucket(long); len(bucket) > maxBucket || bucket == ShortenBucket(long+"x") || ShortenBucket("subscription a") != "subscription a" {
		t.Errorf("got the bucket %s", bucket)
	}
	if err := validateRow(&row); err != nil {
		t.Error(err)
	}
	if row := (Row{API: "apps/a", Count: 1}); Shorten(row) != row {
		t.Errorf("%+v was changed to %+v", row, Shorten(row))
	}
}
