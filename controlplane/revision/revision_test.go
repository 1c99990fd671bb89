package revision

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

func TestParse(t *testing.T) {
	for name, want := range map[string]string{
		"auto": "", "git": "", "mtime": "", "clock": "", "file:x": "",
		"": "must be auto", "Git": "must be auto", "file:": "must be auto", "mtime ": "must be auto",
	} {
		source, err := Parse(name, []string{"."})
		switch {
		case want == "" && (err != nil || source == nil):
			t.Errorf("%q: got %v, %v", name, source, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: got %v, want %q", name, err, want)
		}
	}
}

// TestNumber checks that the revision grows from commit to commit, whatever
// clocks said.
func TestNumber(t *testing.T) {
	for _, test := range []struct {
		name    string
		seconds []int64 // the latest commit first
		want    int64
	}{
		{"one", []int64{100}, 100_000},
		{"later", []int64{101, 100}, 101_000},
		{"in the same second", []int64{100, 100, 100}, 100_002},
		{"a clock that was ahead", []int64{101, 100, 500, 99}, 500_002},
		{"and has been passed", []int64{501, 100, 500, 99}, 501_000},
		{"before 1970", []int64{-5}, 1},
	} {
		if got := number(test.seconds); got != test.want {
			t.Errorf("%s: got %d, want %d", test.name, got, test.want)
		}
	}
}

func TestModified(t *testing.T) {
	for _, test := range []struct {
		modified time.Time
		want     int64
	}{
		{time.UnixMilli(1_700_000_000_123).Add(999 * time.Microsecond), 1_700_000_000_123},
		{time.Unix(0, 0), 1},
		{time.Time{}, 1},
	} {
		got, err := modified{}.Of(t.Context(), manifest.Tree{Modified: test.modified})
		if err != nil || got.Value != test.want {
			t.Errorf("%v: got %v, %v, want %d", test.modified, got, err, test.want)
		}
	}
}

func TestContent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "revision")
	source := content{path}
	if _, err := source.Of(t.Context(), manifest.Tree{}); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("no file: got %v", err)
	}
	for text, want := range map[string]int64{
		"1": 1, " 42\n": 42, "9223372036854775807": 9223372036854775807,
		"": 0, "0": 0, "-1": 0, "9223372036854775808": 0, "1 2": 0, "0x10": 0, "1.0": 0, strings.Repeat(" ", 200) + "1": 0,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := source.Of(t.Context(), manifest.Tree{})
		if got.Value != want || (err == nil) != (want > 0) {
			t.Errorf("%q: got %v, %v, want %d", text, got, err, want)
		}
		if want == 0 && err != nil && !strings.Contains(err.Error(), path+" must hold a whole number from 1 to") {
			t.Errorf("%q: got %v", text, err)
		}
	}
	if got := source.Folders(); len(got) != 1 || got[0] != filepath.Dir(path) {
		t.Errorf("watches %v, want the folder", got)
	}
}

// TestAuto checks that without a commit it is up to the clock, and why.
func TestAuto(t *testing.T) {
	t.Setenv("GIT_CEILING_DIRECTORIES", os.TempDir())
	source, err := Parse("auto", []string{t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	got, err := source.Of(t.Context(), manifest.Tree{})
	if err != nil || got.Value != 0 || got.By != "clock" || got.Why == "" {
		t.Errorf("got %+v, %v, want the clock, and why", got, err)
	}
}
