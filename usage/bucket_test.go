package usage

import (
	"strings"
	"testing"
)

// entries returns a report with two entries as JSON, with some of its text replaced.
func entries(replace ...string) string {
	return strings.NewReplacer(replace...).Replace(`{
		"instance": "` + instance + `", "sequence": 17, "revision": 42, "tableAge": 3.5, "usage": [], "sharing": true, "tenure": 3,
		"entries": [
			{"kind": "quota", "bucket": "s/apps/s", "plan": "apps/p", "account": 1, "granted": 5, "used": 3, "returned": 1, "told": 2, "wanted": 7, "over": 1000, "spare": 1},
			{"kind": "rate", "bucket": "s/apps/s", "plan": "apps/p", "account": 2, "granted": 0, "used": 0, "over": 1000, "part": 4, "dropped": true, "tokens": 6}
		]}`)
}

func TestDecodeEntries(t *testing.T) {
	r, err := Decode([]byte(entries()))
	if err != nil {
		t.Fatal(err)
	}
	want := []Entry{
		{Kind: KindQuota, Bucket: "s/apps/s", Plan: "apps/p", Account: 1, Granted: 5, Used: 3, Returned: 1, Told: 2, Wanted: 7, Over: 1000, Spare: 1},
		{Kind: KindRate, Bucket: "s/apps/s", Plan: "apps/p", Account: 2, Over: 1000, Part: 4, Dropped: true, Tokens: 6},
	}
	if !r.Sharing || r.Tenure != 3 {
		t.Errorf("got sharing %t, tenure %d", r.Sharing, r.Tenure)
	}
	if len(r.Entries) != 2 || r.Entries[0] != want[0] || r.Entries[1] != want[1] {
		t.Errorf("got %+v, want %+v", r.Entries, want)
	}
	for _, test := range []struct{ old, new, want string }{
		{`"tenure": 3`, `"tenure": -1`, "tenure: -1, must be from 0"},
		{`"quota"`, `"burst"`, `entries[0].kind: "burst", must be rate or quota`},
		{`"bucket": "s/apps/s", "plan": "apps/p", "account": 1`, `"plan": "apps/p", "account": 1`, "entries[0].bucket: has 0 bytes"},
		{`"plan": "apps/p", "account": 2`, `"account": 2`, "entries[1].plan: has 0 bytes"},
		{`"account": 2`, `"account": 0`, "entries[1].account: 0, must be from 1"},
		{`"granted": 5`, `"granted": -5`, "entries[0].granted: -5, must be from 0"},
		{`"tokens": 6`, `"tokens": 9007199254740992`, "entries[1].tokens: 9007199254740992, must be from 0 to 9007199254740991"},
	} {
		_, err := Decode([]byte(entries(test.old, test.new)))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.new, err, test.want)
		}
	}
}

func TestDecodeShares(t *testing.T) {
	answer := func(replace ...string) string {
		return strings.NewReplacer(replace...).Replace(`{
			"sequence": 17, "next": 1, "tenure": {"number": 3, "ranks": [1, 0, 2], "lasts": 300000000000},
			"shares": [{"kind": "rate", "bucket": "b", "account": 2, "granted": 5, "keep": 4, "lasts": 15000000000,
				"part": 3, "interval": 1000000, "capacity": 20, "fill": 10, "left": 100, "reset": 7, "tell": 200, "after": 300}]}`)
	}
	a, err := DecodeAnswer([]byte(answer()), 17)
	if err != nil {
		t.Fatal(err)
	}
	want := Share{
		Kind: KindRate, Bucket: "b", Account: 2, Granted: 5, Keep: 4, Lasts: 15_000_000_000,
		Part: 3, Interval: 1_000_000, Capacity: 20, Fill: 10, Left: 100, Reset: 7, Tell: 200, After: 300,
	}
	if len(a.Shares) != 1 || a.Shares[0] != want || a.Tenure.Number != 3 || len(a.Tenure.Ranks) != 3 || a.Tenure.Lasts != 300_000_000_000 {
		t.Errorf("got %+v, %+v", a.Shares, a.Tenure)
	}
	for _, test := range []struct{ old, new, want string }{
		{`"number": 3`, `"number": 0`, "tenure.number: 0, must be from 1"},
		{`"ranks": [1, 0, 2]`, `"ranks": [1, -1]`, "tenure.ranks[1]: -1, must be from 0"},
		{`"ranks": [1, 0, 2]`, `"ranks": [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]`, "tenure.ranks: 17, must be at most 16"},
		{`"lasts": 300000000000`, `"lasts": -1`, "tenure.lasts: -1, must be from 0 to"},
		{`"lasts": 300000000000`, `"lasts": 1, "gateways": -1`, "tenure.gateways: -1, must be from 0 to"},
		{`"granted": 5`, `"granted": -1`, "shares[0].granted: -1"},
		{`"granted": 5`, `"granted": 4503599627370496`, "shares[0].granted: 4503599627370496, must be from 0 to 4503599627370495"},
		{`"capacity": 20`, `"capacity": 1000000001`, "shares[0].capacity: 1000000001, must be from 0 to 1000000000"},
		{`"fill": 10`, `"fill": 1000000001`, "shares[0].fill: 1000000001, must be from 0 to 1000000000"},
		{`"interval": 1000000, "capacity": 20`, `"interval": 3000000000, "capacity": 1000000000`, "shares[0].capacity: 1000000000, must be at most"},
		{`"lasts": 15000000000`, `"lasts": 3600000000001`, "shares[0].lasts: 3600000000001, must be from 0 to 3600000000000"},
		{`"lasts": 300000000000`, `"lasts": 3600000000001`, "tenure.lasts: 3600000000001, must be from 0 to 3600000000000"},
		{`"tell": 200`, `"tell": -1`, "shares[0].tell: -1, must be from 0 to 3600000000000"},
		{`"after": 300`, `"after": 3600000000001`, "shares[0].after: 3600000000001, must be from 0 to 3600000000000"},
		{`"interval": 1000000`, `"interval": 9223372036854775807`, "shares[0].interval: 9223372036854775807"},
	} {
		if _, err := DecodeAnswer([]byte(answer(test.old, test.new)), 17); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.new, err, test.want)
		}
	}
}
