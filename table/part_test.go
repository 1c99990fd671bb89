package table

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
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
				if !Lists(got, digest) || !Lists(whole, digest) {
					t.Fatalf("%d applications, %d parts: key %s: not listed", size, n, digest)
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
				if _, wanted = whole.Keys[name]; Lists(got, name) != wanted || Lists(whole, name) != wanted {
					t.Errorf("key %q: listed, or not, want %t", name, wanted)
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
}

// Equal tables have equal parts, so that a gateway fetches none again.
func TestSplitIsTheSameEveryTime(t *testing.T) {
	whole := randomTable(rand.New(rand.NewSource(2)), 200)
	once, first := Split(whole, 8)
	again, second := Split(whole, 8)
	if !reflect.DeepEqual(once, again) || !reflect.DeepEqual(first, second) {
		t.Error("two splits of one table differ")
	}
	whole.Keys[strings.Repeat("f", 128)] = []Holder{{Application: "apps/a"}}
	changed, _ := Split(whole, 8)
	for i := range changed.Parts {
		if same := changed.Parts[i] == once.Parts[i]; same != (i < 7) {
			t.Errorf("part %d: unchanged is %t after a new key in part 7", i, same)
		}
	}
}

func TestPartOf(t *testing.T) {
	for _, row := range []struct {
		digest string
		parts  int
		want   int
	}{
		{"0000" + strings.Repeat("f", 124), 65536, 0},
		{"ffff", 1, 0},
		{"7fff", 2, 0},
		{"8000", 2, 1},
		{"ffff", 2, 1},
		{"72bf", 256, 0x72},
		{"72bf", 4096, 0x72b},
		{"72bf", 65536, 0x72bf},
		{"ffff", 65536, 65535},
		{"", 2, 0},
		{"fff", 2, 0},
		{"-fff", 2, 0},
		{"zzzz", 65536, 0},
	} {
		if got := PartOfKey(row.digest, row.parts); got != row.want {
			t.Errorf("key %q of %d parts: got part %d, want %d", row.digest, row.parts, got, row.want)
		}
	}
	// printf apps/weather-mobile | sha256sum | cut -c 1-4
	const name, first = "apps/weather-mobile", 0x57a2
	for parts, want := range map[int]int{1: 0, 2: first >> 15, 16: first >> 12, 65536: first} {
		if got := PartOfName(name, parts); got != want {
			t.Errorf("name %q of %d parts: got part %d, want %d", name, parts, got, want)
		}
	}
}

// sections is a part as any JSON decoder reads it.
type sections struct {
	Applications  map[string]Application  `json:"applications"`
	Keys          map[string][]Holder     `json:"keys"`
	Subscriptions map[string]Subscription `json:"subscriptions"`
}

// literals matches the strings in a JSON text.
var literals = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)

// problem tells where look-ups in a part that was accepted differ from what a
// JSON decoder makes of it, or returns an empty string. Only names that stand on
// several lines may be missing.
func problem(data []byte, p *Part) string {
	var want sections
	if err := json.Unmarshal(data, &want); err != nil {
		return "it is accepted, but no JSON: " + err.Error()
	}
	got, err := Assemble(&Table{Parts: []string{p.Sum()}}, []*Part{p})
	if err != nil {
		return err.Error()
	}
	names := map[string]bool{"": true}
	for _, literal := range literals.FindAllString(string(data), -1) {
		name := ""
		if err := json.Unmarshal([]byte(literal), &name); err == nil {
			names[name] = true
			names[literal] = true
		}
	}
	for name := range names {
		application, found := FindApplication(got, name)
		wanted, ok := want.Applications[name]
		if found && (!ok || !reflect.DeepEqual(application, wanted)) {
			return fmt.Sprintf("application %q: got %+v, want %t, %+v", name, application, ok, wanted)
		}
		if ok && !found && repeated(p.applications, name) < 2 {
			return fmt.Sprintf("application %q is not found", name)
		}
		subscription, found := FindSubscription(got, name)
		wantedSub, ok := want.Subscriptions[name]
		if found && (!ok || !reflect.DeepEqual(subscription, wantedSub)) {
			return fmt.Sprintf("subscription %q: got %+v, want %t, %+v", name, subscription, ok, wantedSub)
		}
		if ok && !found && repeated(p.subscriptions, name) < 2 {
			return fmt.Sprintf("subscription %q is not found", name)
		}
		holders := Holders(got, name)
		if !reflect.DeepEqual(holders, want.Keys[name]) && (holders != nil || repeated(p.keys, name) < 2) {
			return fmt.Sprintf("key %q: got %+v, want %+v", name, holders, want.Keys[name])
		}
	}
	return ""
}

// repeated returns on how many lines a name stands.
func repeated(lines []string, name string) int {
	found := 0
	for _, line := range lines {
		if strings.HasPrefix(line, quoted(name)) {
			found++
		}
	}
	return found
}

func TestParsePartGood(t *testing.T) {
	for name, data := range files(t, partsDir, "good") {
		p, err := ParsePart(PartSum(data), data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if what := problem(data, p); what != "" {
			t.Errorf("%s: %s", name, what)
		}
	}
}

// A name that stands on several lines has no row, whichever line would count.
func TestNameOnTwoLines(t *testing.T) {
	data := files(t, partsDir, "good")["name_on_two_lines"]
	got, err := Assemble(&Table{Parts: []string{PartSum(data)}}, parse(t, [][]byte{data}))
	if err != nil {
		t.Fatal(err)
	}
	if row, ok := FindApplication(got, "apps/a"); ok {
		t.Errorf("application: got %+v", row)
	}
	if row, ok := FindSubscription(got, "apps/s"); ok {
		t.Errorf("subscription: got %+v", row)
	}
	if holders := Holders(got, strings.Repeat("1a", 64)); holders != nil {
		t.Errorf("key: got %+v", holders)
	}
	if _, ok := FindApplication(got, "apps/b"); !ok {
		t.Error("the application beside is not found")
	}
}

// badParts tells, for each file in testdata/parts/bad, what its error says.
var badParts = []struct{ name, want string }{
	{"nothing", noSections},
	{"html", noSections},
	{"truncated", noSections},
	{"tail_missing", noSections},
	{"trailing_text", noSections},
	{"trailing_newlines", noSections},
	{"byte_order_mark", noSections},
	{"index", noSections},
	{"one_line", noSections},
	{"line_ends_of_windows", noSections},
	{"pretty", noSections},
	{"sections_in_another_order", noSections},
	{"section_missing", noSections},
	{"section_empty_on_one_line", noSections},
	{"indented", notRows},
	{"section_more", notRows},
	{"section_twice", notRows},
	{"section_inside_row", notRows},
	{"comma_missing", notRows},
	{"comma_on_the_next_line", notRows},
	{"name_begins_late", notRows},
	{"row_on_two_lines_inside", notRows},
	{"row_without_name", notRows},
	{"unsorted", "applications: " + unsorted},
	{"unsorted_keys", "keys: " + unsorted},
	{"unsorted_subscriptions", "subscriptions: " + unsorted},
	{"sorted_by_name_only", unsorted},
	{"blank_line", unsorted},
	{"blank_row", unsorted},
	{"first_row_beside_the_section", `applications: the first row must be on a line of its own`},
	{"comma_more", `applications: row "apps/b":{"appId":"b"},: invalid character '}'`},
	{"comment", `row "apps/a":{"appId":"a"} /* first */: invalid character '/'`},
	{"section_hidden_in_a_line", `row "apps/a":{"appId":"a"}},"Applications":{"apps/b":{"appId":"b"}: invalid character ','`},
	{"section_hidden_between_lines", `row "apps/a":{"appId":"a"}},"Applications":{"x":1: invalid character ','`},
	{"rows_on_one_line", `applications: line "apps/a":{"appId":"a","grants":{"apps/api":"apps/s"}},"apps/b":{"appId":"b"} must be one row`},
	{"row_on_two_lines", `row "apps/a":{"appId":"a": unexpected end of JSON input`},
	{"row_inside_row", `unexpected end of JSON input`},
	{"row_inside_list", inRows},
	{"row_inside_list_made_up_for", inRows},
	{"holders_across_lines", inRows},
	{"objects_in_a_line", `line "apps/c":{"x":[{"k":1 must be one row`},
	{"objects_in_a_line_of_two", `line "apps/c":{"x":[{"k":1 must be one row`},
	{"row_without_value", `row "apps/a": invalid character '}' after object key`},
	{"row_text", `applications: row "apps/a":"apps/b": json: cannot unmarshal string`},
	{"row_list", `cannot unmarshal array`},
	{"holders_object", `keys: row "1a1a1a1a…: json: cannot unmarshal object`},
	{"holder_text", `keys: row "2b2b2b2b…: json: cannot unmarshal string`},
	{"suspended_text", `cannot unmarshal string`},
	{"grants_list", `cannot unmarshal array`},
	{"plan_number", `subscriptions: row "apps/s":{"plan":1}: json: cannot unmarshal number`},
	{"name_escaped_for_nothing", `applications: row "apps\/a":{"appId":"a"} must begin with "apps/a":`},
	{"name_escaped_letter", `must begin with "apps/a":`},
	{"name_not_escaped", `must begin with "apps/a\u003cb":`},
	{"name_with_line_separator", `must begin with "apps/\u2028":`},
	{"name_with_paragraph_separator", `must begin with "apps/\u2029":`},
	{"name_in_capital_hex", `must begin with "apps/\u003c":`},
	{"name_and_colon_apart", `must begin with "apps/a":`},
	{"name_and_colon_apart_by_tab", `must begin with "apps/a":`},
	{"name_no_utf8", "must begin with \"apps/\ufffd\":"},
}

const (
	noSections = "must have the sections applications, keys and subscriptions, each row on a line of its own"
	notRows    = "has lines that are not rows, or begin with something else than a name"
	unsorted   = "lines must be in ascending order of their bytes"
	inRows     = "has rows that are not on lines of their own"
)

func TestParsePartBad(t *testing.T) {
	bad := files(t, partsDir, "bad")
	for _, row := range badParts {
		data, ok := bad[row.name]
		if !ok {
			t.Errorf("%s: no such file", row.name)
			continue
		}
		delete(bad, row.name)
		got, err := ParsePart(PartSum(data), data)
		if err == nil || got != nil {
			t.Errorf("%s: got a part and error %v, want an error with %q", row.name, err, row.want)
			continue
		}
		if text := err.Error(); !strings.HasPrefix(text, "part "+PartSum(data)+": ") || !strings.Contains(text, row.want) {
			t.Errorf("%s: got %q, want the sum and %q in it", row.name, text, row.want)
		}
	}
	for name := range bad {
		t.Errorf("%s: a file without a row in this test", name)
	}
}

func TestParsePartOfAnotherSum(t *testing.T) {
	data := files(t, partsDir, "good")["rows_of_each_kind"]
	sum := PartSum(data)
	torn := data[:len(data)-1] // Laid out right, and yet it is another part.
	for name, row := range map[string]struct {
		sum  string
		data []byte
	}{
		"another":    {PartSum([]byte("another")), data},
		"torn":       {sum, torn},
		"upper case": {strings.ToUpper(sum), data},
		"short":      {sum[:63], data},
		"empty":      {"", data},
		"nothing":    {sum, nil},
	} {
		if _, err := ParsePart(row.sum, row.data); err == nil || !strings.Contains(err.Error(), "has SHA-256 "+PartSum(row.data)) {
			t.Errorf("%s: got error %v, want the SHA-256 in it", name, err)
		}
	}
}

func TestParsePartTooLarge(t *testing.T) {
	_, err := ParsePart("", make([]byte, MaxPartBytes+1))
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("got error %v, want %v", err, ErrTooLarge)
	}
	for rows, want := range map[int]error{MaxPartRows: nil, MaxPartRows + 1: ErrTooLarge} {
		data := []byte(partHead + partKeys + "\n" + strings.Repeat("\"a\":null,\n", rows-1) + `"a":null` + partSubs + partTail)
		if _, err := ParsePart(PartSum(data), data); !errors.Is(err, want) {
			t.Errorf("%d rows: got error %v, want %v", rows, err, want)
		}
	}
}

// An error tells of a row, and neither the digest nor what is long about it.
func TestParsePartErrorIsShort(t *testing.T) {
	digest := strings.Repeat("3c", 64)
	for _, data := range []string{
		partHead + partKeys + "\n\"" + digest + `":7` + partSubs + partTail,
		partHead + "\n\"apps/é" + strings.Repeat("é", 1000) + `":7` + partKeys + partSubs + partTail,
	} {
		_, err := ParsePart(PartSum([]byte(data)), []byte(data))
		if err == nil || len(err.Error()) > 400 || strings.Contains(err.Error(), digest[:10]) || !utf8.ValidString(err.Error()) {
			t.Errorf("got error %v", err)
		}
	}
}

func TestAssembleBad(t *testing.T) {
	whole := randomTable(rand.New(rand.NewSource(3)), 100)
	index, data := Split(whole, 4)
	parts := parse(t, data)
	whole.Revision++
	whole.Keys[strings.Repeat("0", 128)] = []Holder{{Application: "apps/a"}}
	_, newer := Split(whole, 4)
	of := func(sums []string) *Table { return &Table{Parts: sums} }
	for name, row := range map[string]struct {
		index *Table
		parts []*Part
		want  string
	}{
		"a whole table":    {whole, nil, "it is no index"},
		"no parts":         {index, nil, "got 0 parts, the index lists 4"},
		"too few":          {index, parts[:3], "got 3 parts, the index lists 4"},
		"too many":         {index, append(parts[:4:4], parts[0]), "got 5 parts, the index lists 4"},
		"one missing":      {index, []*Part{parts[0], parts[1], nil, parts[3]}, "part 2 is missing, must be " + index.Parts[2]},
		"two swapped":      {index, []*Part{parts[1], parts[0], parts[2], parts[3]}, "part 0 is " + index.Parts[1] + ", must be " + index.Parts[0]},
		"another revision": {index, []*Part{parse(t, newer[:1])[0], parts[1], parts[2], parts[3]}, "part 0 is "},
		"swapped in both":  {of([]string{index.Parts[1], index.Parts[0], index.Parts[2], index.Parts[3]}), []*Part{parts[1], parts[0], parts[2], parts[3]}, "part 0 (" + index.Parts[1] + ") has rows of parts 1 to 1"},
		"of half as many":  {of(index.Parts[:2]), parts[:2], "part 1 (" + index.Parts[1] + ") has rows of parts 0 to 0"},
		"of twice as many": {of(append(index.Parts[:4:4], index.Parts...)), append(parts[:4:4], parts...), "has rows of parts"},
		"names as digests": {of(misplaced(t).sums), misplaced(t).parts, "has rows of parts"},
	} {
		got, err := Assemble(row.index, row.parts)
		if err == nil || got != nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got error %v, want %q in it", name, err, row.want)
		}
	}
	if index.Loaded != nil {
		t.Error("the index was changed")
	}
}

type misplacedParts struct {
	sums  []string
	parts []*Part
}

// misplaced returns two parts with applications each of which belongs to the
// other.
func misplaced(t testing.TB) misplacedParts {
	var m misplacedParts
	rows := []*Table{{Applications: map[string]Application{}}, {Applications: map[string]Application{}}}
	for i := 0; i < 10; i++ {
		name := fmt.Sprintf("apps/%d", i)
		rows[1-PartOfName(name, 2)].Applications[name] = Application{AppID: name}
	}
	m.parts = parse(t, [][]byte{EncodePart(rows[0]), EncodePart(rows[1])})
	m.sums = []string{m.parts[0].Sum(), m.parts[1].Sum()}
	return m
}

// A row in a part where it does not belong is not found, whether or not the part
// was refused for it.
func TestRowInTheWrongPart(t *testing.T) {
	rows := []*Table{{Applications: map[string]Application{}}, {Applications: map[string]Application{}}}
	astray := ""
	for i := 0; i < 100; i++ {
		name := fmt.Sprintf("apps/%02d", i)
		part := PartOfName(name, 2)
		if part == 1 && astray == "" && i > 50 {
			astray, part = name, 0
		}
		rows[part].Applications[name] = Application{AppID: name}
	}
	parts := parse(t, [][]byte{EncodePart(rows[0]), EncodePart(rows[1])})
	got, err := Assemble(&Table{Parts: []string{parts[0].Sum(), parts[1].Sum()}}, parts)
	if err != nil {
		t.Fatal(err) // Its neighbours are where they belong, so it goes unnoticed.
	}
	for i := 0; i < 100; i++ {
		name := fmt.Sprintf("apps/%02d", i)
		if _, ok := FindApplication(got, name); ok != (name != astray) {
			t.Errorf("application %s: found %t, want %t", name, ok, name != astray)
		}
	}
}

// Before its parts are there, an index knows nobody.
func TestIndexAloneRefuses(t *testing.T) {
	whole := randomTable(rand.New(rand.NewSource(4)), 20)
	index, _ := Split(whole, 2)
	for name := range whole.Applications {
		if _, ok := FindApplication(index, name); ok {
			t.Errorf("application %q is found", name)
		}
	}
	for name := range whole.Subscriptions {
		if _, ok := FindSubscription(index, name); ok {
			t.Errorf("subscription %q is found", name)
		}
	}
	for digest := range whole.Keys {
		if Holders(index, digest) != nil {
			t.Errorf("key %s is found", digest)
		}
	}
}

// Parts are loaded from what was fetched and checked, never from a document.
func TestDecodeLoadsNothing(t *testing.T) {
	for _, field := range []string{"Loaded", "loaded", "XLoaded", "-"} {
		got, err := Decode([]byte(`{"revision":1,"issuedAt":"2026-11-21T17:00:00Z","plans":{},"apis":{},
			"parts":["` + strings.Repeat("0", 64) + `"],"` + field + `":[{"sum":"x","keys":["\"a\":[]"]}]}`))
		if err != nil {
			t.Errorf("%s: %v", field, err)
		} else if LoadedParts(got) != nil {
			t.Errorf("%s: got loaded parts", field)
		}
	}
}

func TestLoadedParts(t *testing.T) {
	index, data := Split(randomTable(rand.New(rand.NewSource(5)), 20), 4)
	parts := parse(t, data)
	got, err := Assemble(index, parts)
	if err != nil {
		t.Fatal(err)
	}
	parts[0] = nil // The table has a list of its own.
	loaded := LoadedParts(got)
	if len(loaded) != 4 {
		t.Fatalf("got %d parts, want 4", len(loaded))
	}
	for i, p := range loaded {
		if p.Sum() != index.Parts[i] {
			t.Errorf("part %d: got sum %s, want %s", i, p.Sum(), index.Parts[i])
		}
		if p.Text() != string(data[i]) {
			t.Errorf("part %d: got text %q, want %q", i, p.Text(), data[i])
		}
	}
	if PartPath(index.Parts[0]) != "/v1/parts/"+index.Parts[0] {
		t.Errorf("got path %s", PartPath(index.Parts[0]))
	}
}

func TestAbsurdPartCounts(t *testing.T) {
	table := func(n int) *Table {
		t := &Table{Revision: 1, IssuedAt: time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC), Plans: map[string]Plan{}, APIs: map[string]API{}}
		sums := strings.Repeat(strings.Repeat("0", 64)+" ", n)
		t.Parts = strings.Fields(sums)
		return t
	}
	for n, ok := range map[int]bool{1: true, 2: true, 3: false, 1023: false, 1024: true, 65535: false, 65536: true, 65537: false, 131072: false} {
		if err := Validate(table(n)); (err == nil) != ok {
			t.Errorf("%d parts: got error %v", n, err)
		}
	}
}

func TestSignedMessage(t *testing.T) {
	body := []byte(`{"revision":1}`)
	if got, want := string(SignedMessage(body)), "tollgate table v1\n"+`{"revision":1}`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Whatever is done to the lines of a part, either it is refused or look-ups find
// in it what a JSON decoder does.
func TestMangledParts(t *testing.T) {
	const seed, rounds = 1, 1000
	r := rand.New(rand.NewSource(seed))
	accepted := 0
	for i := 0; i < rounds; i++ {
		data := mangle(r, EncodePart(randomTable(r, 1+r.Intn(4))))
		p, err := ParsePart(PartSum(data), data)
		if err != nil {
			continue
		}
		accepted++
		if what := problem(data, p); what != "" {
			t.Fatalf("seed %d, part %d: %s\n%s", seed, i, what, data)
		}
	}
	if accepted < rounds/100 || accepted > rounds*99/100 {
		t.Errorf("%d of %d parts were accepted", accepted, rounds)
	}
}

// snippets are what breaks the structure of JSON, or mends it again.
var snippets = []string{
	"{", "}", "[", "]", ",", ":", "\n", ",\n", "},{", "}]", "[{", `"`, `""`, `"x":`, `"x":{`, `"x":[{`, `"x":{}`, `"x":{},`, `,"x":{}`, "null", " ", "\t", "\r", `\`, `\u0061`,
	`"apps/a":{"appId":"evil"}`, `"apps/a":{`, `,"apps/a":[]`, "},\"keys\":{\n", "}},", "<", "\xff", "\u2028",
}

// mangle does some of what an odd or hostile server might do to a part.
func mangle(r *rand.Rand, data []byte) []byte {
	text := string(data)
	for n := r.Intn(4); n >= 0; n-- {
		lines := strings.Split(text, "\n")
		at, to := r.Intn(len(lines)), r.Intn(len(lines))
		switch r.Intn(6) {
		case 0:
			lines[at], lines[to] = lines[to], lines[at]
		case 1:
			lines[at] = lines[to]
		case 2:
			lines = append(lines[:at], lines[at+1:]...)
		case 3:
			if at+1 < len(lines) {
				lines[at] += lines[at+1]
				lines = append(lines[:at+1], lines[at+2:]...)
			}
		case 4:
			lines = append(lines[:at+1], lines[at:]...)
		default:
			in := r.Intn(len(lines[at]) + 1)
			lines[at] = lines[at][:in] + snippets[r.Intn(len(snippets))] + lines[at][in:]
		}
		text = strings.Join(lines, "\n")
	}
	return []byte(text)
}

// Whatever ParsePart takes has the rows that a JSON decoder finds in it, and no
// others; it never panics.
func FuzzParsePart(f *testing.F) {
	for _, kind := range []string{"good", "bad"} {
		for _, data := range files(f, partsDir, kind) {
			f.Add(data)
		}
	}
	f.Add(EncodePart(randomTable(rand.New(rand.NewSource(6)), 30)))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParsePart(PartSum(data), data)
		if err != nil {
			if p != nil {
				t.Fatalf("got a part beside the error %v", err)
			}
			return
		}
		if what := problem(data, p); what != "" {
			t.Fatal(what)
		}
	})
}

// A document and its index are the same table, and nothing else is.
func TestRestated(t *testing.T) {
	whole := func() *Table {
		return &Table{
			Revision: 42, IssuedAt: time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC),
			Plans: map[string]Plan{"a/plan": {Title: "Plan", Quota: &Quota{Limit: 5, Period: "1h"}}},
			APIs:  map[string]API{"a/api": {OperationSets: map[string][]Matcher{"read": {{Methods: []string{"GET"}}}}}},
			Subscriptions: map[string]Subscription{
				"a/sub": {Plan: "a/plan"}, "a/none": {Plan: "a/plan", OperationFilter: &OperationFilter{Include: []string{}}},
			},
			Applications: map[string]Application{"a/one": {AppID: "1", Grants: map[string]string{"a/api": "a/sub"}}, "a/two": {AppID: "<2>"}},
			Keys: map[string][]Holder{
				strings.Repeat("0a", 64): {{Application: "a/one"}}, strings.Repeat("fa", 64): {{Application: "a/two", Suspended: true}},
			},
		}
	}
	onWire := func(rows *Table) *Table {
		t.Helper()
		body, err := json.Marshal(rows)
		if err != nil {
			t.Fatal(err)
		}
		decoded, err := Decode(body)
		if err != nil {
			t.Fatal(err)
		}
		return decoded
	}
	for _, n := range []int{1, 4, 64} {
		index, _ := Split(whole(), n)
		index, document := onWire(index), onWire(whole())
		if !Restated(document, index) || !Restated(index, document) {
			t.Errorf("%d parts: the index is not taken for its document", n)
		}
		if Restated(document, document) || Restated(index, index) {
			t.Errorf("%d parts: two of a kind are taken for two ways to write a table down", n)
		}
		for name, change := range map[string]func(*Table){
			"revision":            func(t *Table) { t.Revision++ },
			"issuedAt":            func(t *Table) { t.IssuedAt = t.IssuedAt.Add(1) },
			"a plan":              func(t *Table) { t.Plans["a/plan"] = Plan{Title: "Plan"} },
			"an API":              func(t *Table) { t.APIs["b/api"] = API{} },
			"a subscription":      func(t *Table) { delete(t.Subscriptions, "a/sub") },
			"an operation filter": func(t *Table) { t.Subscriptions["a/none"] = Subscription{Plan: "a/plan"} },
			"an application":      func(t *Table) { t.Applications["a/two"] = Application{AppID: "3"} },
			"a key":               func(t *Table) { t.Keys[strings.Repeat("0b", 64)] = []Holder{{Application: "a/one"}} },
			"a key not suspended": func(t *Table) { t.Keys[strings.Repeat("fa", 64)][0].Suspended = false },
		} {
			other := whole()
			change(other)
			if Restated(onWire(other), index) || Restated(index, onWire(other)) {
				t.Errorf("%d parts: a table with another %s is taken for the same", n, name)
			}
		}
	}
}
