package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tollgate-apim/tollgate/bench/proc"
	"github.com/tollgate-apim/tollgate/e2e/stack"
)

func TestTables(t *testing.T) {
	for _, spec := range []tableSpec{{Revision: 1, Keys: 10, APIs: 1}, {Revision: 3, Keys: 2, APIs: 20}} {
		var got struct {
			Revision     int
			APIs         map[string]any
			Plans        map[string]any
			Applications map[string]struct{ Grants map[string]string }
			Keys         map[string][]struct{ Application string }
		}
		data := spec.bytes()
		if err := json.Unmarshal(data, &got); err != nil {
			t.Fatal(err)
		}
		if got.Revision != spec.Revision || len(got.APIs) != spec.APIs || len(got.Keys) != spec.Keys+2 || len(got.Applications) != spec.Keys+2 {
			t.Errorf("%+v: got revision %d, %d APIs, %d keys, %d applications", spec, got.Revision, len(got.APIs), len(got.Keys), len(got.Applications))
		}
		for _, key := range []string{fullKey, limitedKey, string(numberedKey(nil, 1))} {
			holders := got.Keys[stack.Digest(key)]
			if len(holders) != 1 || len(got.Applications[holders[0].Application].Grants) != spec.APIs {
				t.Errorf("%+v: key %s has holders %v", spec, key, holders)
			}
		}
		if string(spec.bytes()) != string(data) {
			t.Errorf("%+v: another table the second time", spec)
		}
	}
}

// One changed key is one part and the index, and the rest stays as it is.
func TestChangedTable(t *testing.T) {
	spec := tableSpec{Revision: 3, Keys: 1000, APIs: 1}
	before, err := spec.inParts(16)
	if err != nil {
		t.Fatal(err)
	}
	after := before.withChange(spec)
	var index struct {
		Revision int
		Parts    []string
	}
	if err := json.Unmarshal(after.body, &index); err != nil {
		t.Fatal(err)
	}
	changed := 0
	for _, sum := range index.Parts {
		if after.parts[sum] == nil {
			t.Errorf("part %s is missing", sum)
		}
		if before.parts[sum] == nil {
			changed++
		}
	}
	if index.Revision != 4 || len(index.Parts) != 16 || changed != 1 || after.size() != before.size() {
		t.Errorf("got revision %d, %d parts, %d changed, %d bytes instead of %d", index.Revision, len(index.Parts), changed, after.size(), before.size())
	}
	if size := spec.whole().size(); before.size() < size || before.size() > size*102/100 {
		t.Errorf("got %d bytes in parts, %d as one document", before.size(), size)
	}
}

// A key has 40 characters, and another number is another key.
func TestNumberedKey(t *testing.T) {
	seen := map[string]bool{}
	for _, n := range []uint64{0, 1, 10, 999_999, 1 << 63} {
		key := string(numberedKey(nil, n))
		if len(key) != 40 || seen[key] {
			t.Errorf("%d: got %s", n, key)
		}
		seen[key] = true
	}
}

func TestUnknownKeys(t *testing.T) {
	seen := map[string]bool{}
	for n := range uint64(1000) {
		seen[string(unknown(nil, n))] = true
	}
	if len(seen) != 1000 {
		t.Errorf("got %d different keys of 1000", len(seen))
	}
}

func TestForeigns(t *testing.T) {
	folder := t.TempDir()
	describe := func(text string) {
		t.Helper()
		dir := filepath.Join(folder, "api-keys")
		if err := os.MkdirAll(dir, 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, foreignFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := foreigns(folder); err == nil {
		t.Error("an empty folder: got no error")
	}

	describe("module: example.com/keys\nheader: {X-Key: \"{{.Key}}\"}\nconfig:\n  keys: [{{range .Keys}}\"{{.}}\",{{end}}]\n")
	found, err := foreigns(folder)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 2 {
		t.Fatalf("got %d plugins, want one twice", len(found))
	}
	for i, want := range []struct {
		name, title string
		keys, sent  int
	}{{"api-keys-1", "api-keys, 1 key", 1, 0}, {"api-keys-1000", "api-keys, 1,000 keys", 1000, 500}} {
		r := found[i].row()
		if r.Name != want.name || r.Title != want.title || r.Foreign != "api-keys" || found[i].Module != "example.com/keys" {
			t.Errorf("got %+v of module %s, want %+v", r.Row, found[i].Module, want)
		}
		keys, _ := found[i].Config["keys"].([]any)
		if len(keys) != want.keys {
			t.Fatalf("got %d keys, want %d", len(keys), want.keys)
		}
		line := "X-Key: " + keys[want.sent].(string) + "\r\n"
		if got := string(r.credentials(nil, 0)); got != line {
			t.Errorf("got %q, want %q", got, line)
		}
	}

	for _, bad := range []struct{ text, want string }{
		{"module: example.com/keys\n", "needs module, header and config"},
		{"module: m\nheaders: {}\n", "headers"},
		{"module: {{.Modul}}\n", "Modul"},
		{"module: {{\n", foreignFile},
	} {
		describe(bad.text)
		if _, err := foreigns(folder); err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%q: got error %v, want one with %q", bad.text, err, bad.want)
		}
	}
}

func TestPick(t *testing.T) {
	all := rows(endpoints{})
	picked, err := pick(all, "tollgate,bare")
	if err != nil || len(picked) != 2 || picked[0].Name != "tollgate" || picked[1].Name != "bare" {
		t.Errorf("got %v and error %v", picked, err)
	}
	if _, err := pick(all, "bear"); err == nil || !strings.Contains(err.Error(), "tollgate-full") {
		t.Errorf("got error %v, want one that lists the rows", err)
	}
}

// Each row has a router of its own, or goes through one that exists.
func TestRowsHaveRouters(t *testing.T) {
	all := append(rows(endpoints{}), bigRows(endpoints{}, 10)...)
	routers := map[string]bool{}
	for _, r := range all {
		if routers[r.Name] {
			t.Errorf("two rows are called %s", r.Name)
		}
		routers[r.Name] = r.through == ""
	}
	for _, r := range all {
		if r.through != "" && !routers[r.through] {
			t.Errorf("%s goes through %s, which has no router", r.Name, r.through)
		}
	}
}

// This process uses processor time and memory.
func TestProcess(t *testing.T) {
	before, err := proc.CPUTime(os.Getpid())
	if err != nil {
		t.Skip(err) // Not Linux.
	}
	for x := 0; ; x++ {
		after, err := proc.CPUTime(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if after > before {
			break
		}
	}
	now, peak, err := proc.Resident(os.Getpid())
	if err != nil || now < 1<<20 || peak < now {
		t.Errorf("got %d bytes, peak %d, error %v", now, peak, err)
	}
}
