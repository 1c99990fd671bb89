package table

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand"
	"reflect"
	"strings"
	"testing"
	"time"
)

// oddNames sort next to each other, need escapes in JSON, or look like JSON.
var oddNames = []string{
	"apps/a", "apps/a-b", "apps/a!", "apps/a b", "apps/A", "apps/a/", "apps/aa", "apps/a:", "apps/\u00e9", "apps/\u2028",
	`apps/"`, `apps/a"`, `apps/a\`, `apps/a":{"appId":"evil"}`, "apps/<&>", "apps/a\nb", "apps/a\tb", "apps/\x00", "apps/\x7f", "", " ", "é", "\ufffd",
	"applications", "keys", "}},", "\n},\"keys\":{",
}

// randomTable returns a table with so many applications, as many subscriptions,
// and a key for each application.
func randomTable(r *rand.Rand, applications int) *Table {
	t := &Table{
		Revision: 1, IssuedAt: time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC),
		Plans: map[string]Plan{"apps/plan": {Title: "Plan"}}, APIs: map[string]API{"apps/api": {}},
		Subscriptions: map[string]Subscription{}, Applications: map[string]Application{}, Keys: map[string][]Holder{},
	}
	name := func(i int) string {
		if i < len(oddNames) {
			return oddNames[r.Intn(len(oddNames))]
		}
		return fmt.Sprintf("apps/%x", r.Intn(4*applications))
	}
	for i := 0; i < applications; i++ {
		app := Application{AppID: name(i)}
		if r.Intn(2) == 0 {
			app.Owner = name(i)
			app.Grants = map[string]string{"apps/api": name(i), name(i): "apps/sub"}
		}
		t.Applications[name(i)] = app
		sub := Subscription{Plan: "apps/plan"}
		if r.Intn(2) == 0 {
			sub.OperationFilter = &OperationFilter{Include: []string{name(i)}}
		}
		t.Subscriptions[name(i)] = sub
		holders := []Holder{{Application: name(i), Title: name(i), Suspended: r.Intn(2) == 0}}
		if r.Intn(4) == 0 {
			holders = append(holders, Holder{Application: name(i)})
		}
		t.Keys[randomDigest(r)] = holders
	}
	return t
}

func randomDigest(r *rand.Rand) string {
	return fmt.Sprintf("%016x%0112x", r.Uint64(), r.Uint64())
}

// parse returns the parts of data, each under its own sum.
func parse(t testing.TB, data [][]byte) []*Part {
	t.Helper()
	parts := make([]*Part, len(data))
	for i := range data {
		p, err := ParsePart(PartSum(data[i]), data[i])
		if err != nil {
			t.Fatalf("%v\n%s", err, data[i])
		}
		parts[i] = p
	}
	return parts
}

// inParts returns a table as a gateway has it that fetched it in n parts.
func inParts(t testing.TB, whole *Table, n int) *Table {
	t.Helper()
	index, data := Split(whole, n)
	body, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	fetched, err := Decode(body)
	if err != nil {
		t.Fatalf("%v\n%s", err, body)
	}
	got, err := Assemble(fetched, parse(t, data))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// A table in parts answers every look-up as the whole table does.
func TestPartsAreTheTable(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	for _, size := range []int{0, 1, 2, 20, 200} {
		for _, n := range []int{1, 2, 8, 64} {
			whole := randomTable(r, size)
			got := inParts(t, whole, n)
			for name, want := range whole.Applications {
				row, ok := FindApplication(got, name)
				if !ok || !reflect.DeepEqual(row, want) {
					t.Fatalf("%d applications, %d parts: application %q: got %+v, %t, want %+v", size, n, name, row, ok, want)
				}
			}
			for name, want := range whole.Subscriptions {
				row, ok := FindSubscription(got, name)
				if !ok || !reflect.DeepEqual(row, want) {
					t.Fatalf("%d applications, %d parts: subscription %q: got %+v, %t, want %+v", size, n, name, row, ok, want)
				}
			}
			for digest, want := range whole.Keys {
				if holders := Holders(got, digest); !reflect.DeepEqual(holders, want) {
					t.Fatalf("%d applications, %d parts: key %s: got %+v, want %+v", size, n, digest, holders, want)
				}
			}
			for _, name := range append(oddNames, "apps/none", randomDigest(r)) {
				_, wanted := whole.Applications[name]
				if _, ok := FindApplication(got, name); ok != wanted {
					t.Errorf("application %q: got %t, want %t", name, ok, wanted)
				}
				_, wanted = whole.Subscriptions[name]
				if _, ok := FindSubscription(got, name); ok != wanted {
					t.Errorf("subscription %q: got %t, want %t", name, ok, wanted)
				}
				if holders := Holders(got, name); len(holders) != len(whole.Keys[name]) {
					t.Errorf("key %q: got %+v", name, holders)
				}
			}
		}
	}
}

// The layout is the one that docs/sync.md shows.
func TestEncodePart(t *testing.T) {
	got := string(EncodePart(&Table{
		Applications: map[string]Application{
			"apps/b": {AppID: "b"},
			"apps/a": {AppID: "a", Grants: map[string]string{"apps/api": "apps/s"}},
		},
		Keys: map[string][]Holder{"72bf": {{Application: "apps/a"}}},
	}))
	want := strings.Join([]string{
		`{"applications":{`,
		`"apps/a":{"appId":"a","grants":{"apps/api":"apps/s"}},`,
		`"apps/b":{"appId":"b"}`,
		`},"keys":{`,
		`"72bf":[{"application":"apps/a"}]`,
		`},"subscriptions":{`,
		`}}`, ``,
	}, "\n")
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, err := ParsePart(PartSum([]byte(want)), bytes.TrimSuffix([]byte(want), []byte("\n"))); err == nil {
		t.Error("got no error for another sum")
	}
}
