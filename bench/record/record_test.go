package record

import (
	"path/filepath"
	"testing"
)

func TestFill(t *testing.T) {
	const begin, end = "<!-- x: written by `make bench-render` -->\n", "<!-- end of x -->\n"
	page := "before\n" + begin + "old\n" + end + "after\n"
	want := "before\n" + begin + "\nnew\n\n" + end + "after\n"
	got, err := Fill(page, "x", "new\n")
	if err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if again, err := Fill(got, "x", "new"); err != nil || again != want {
		t.Errorf("a second time: got %q, %v, want %q", again, err, want)
	}
	for _, bad := range []string{"", "nothing\n", begin, end} {
		if _, err := Fill(bad, "x", "new"); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}

func TestSave(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results.json")
	if err := Save(path, map[string]int{"a": 1}); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	if err := Load(path, &got); err != nil || got["a"] != 1 {
		t.Errorf("got %v, %v", got, err)
	}
	if err := Load(path, &[]int{}); err == nil {
		t.Error("no error for results of another form")
	}
}
