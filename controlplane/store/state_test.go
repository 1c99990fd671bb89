package store

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var kept = time.Date(2026, 11, 21, 17, 0, 0, 123456789, time.UTC)

func someState() state {
	return state{time: kept, version: 7, entries: map[string]entry{
		"text":   {Value: Value{Data: []byte(`{"a":"<b>&\\"}`), Version: 1}},
		"binary": {Value: Value{Data: []byte("\x00\xff\n"), Version: 2}, until: kept.Add(time.Hour)},
		"lines":  {Value: Value{Data: []byte("a\nb"), Version: 3}},
		"empty":  {Value: Value{Data: []byte{}, Version: 7}},
		"ключ\n": {Value: Value{Data: []byte("\u2028 \ufffd"), Version: 4}, until: kept.Add(time.Nanosecond)},
	}}
}

func written(t testing.TB, s state) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var comparing = cmp.AllowUnexported(state{}, entry{})

func TestState(t *testing.T) {
	for _, s := range []state{someState(), {time: kept, entries: map[string]entry{}}} {
		got, err := readState(bytes.NewReader(written(t, s)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, got, comparing); diff != "" {
			t.Error(diff)
		}
	}
}

// TestTornState cuts a file everywhere, and changes each byte.
func TestTornState(t *testing.T) {
	whole := written(t, someState())
	for i := range whole {
		if _, err := readState(bytes.NewReader(whole[:i])); err == nil {
			t.Errorf("cut after %d of %d bytes: is read", i, len(whole))
		}
		changed := bytes.Clone(whole)
		changed[i] ^= 0x01
		if _, err := readState(bytes.NewReader(changed)); err == nil {
			t.Errorf("byte %d of %q changed: is read", i, whole)
		}
	}
}

func TestBadState(t *testing.T) {
	good := string(written(t, someState()))
	one := `{"key":"k","version":1,"text":"x"}`
	file := func(head string, lines ...string) string { return head + "\n" + strings.Join(lines, "\n") + "\n" }
	head := func(version, entries int) string {
		return fmt.Sprintf(`{"format":"tollgate-state/1","time":"2026-11-21T17:00:00Z","version":%d,"entries":%d}`, version, entries)
	}
	for _, test := range []struct{ text, want string }{
		{"", "is empty"},
		{"\n", "is no state file of tollgate"},
		{"{}\n", "is no state file of tollgate"},
		{"\x7fELF", "is no state file of tollgate"},
		{`{"revision":1}` + "\n", "is no state file of tollgate"},
		{strings.Replace(good, "state/1", "state/2", 1), `has the format "tollgate-state/2", can read "tollgate-state/1"`},
		{head(0, -1) + "\n", "must be 0 or more"},
		{head(0, maxEntries+1) + "\n", "at most 1048576 entries"},
		{file(head(1, 1), one), "ends in line 3, before its last line"},
		{file(head(1, 2), one, one), `line 3: key "k" is there twice`},
		{file(head(0, 1), one), "line 2: version 1, must be from 1 to 0"},
		{file(head(1, 1), `{"key":"k","version":1}`), "line 2: must have one of text and base64"},
		{file(head(1, 1), `{"key":"k","version":1,"text":"x","base64":"eA=="}`), "line 2: must have one of"},
		{file(head(1, 1), `{"key":"","version":1,"text":"x"}`), "line 2: a key is empty"},
		{file(head(1, 1), `{"key":"k","version":1,"text":"x","ttl":1}`), `line 2: json: unknown field "ttl"`},
		{file(head(1, 1), one+one), "line 2: has more than one value"},
		{file(head(1, 1), one, `{"sha256":"00"}`), `line 3: SHA-256 "00", but the lines before have `},
		{good + "\n", "goes on after its last line, 7"},
		{head(1, 1) + "\n" + strings.Repeat("x", maxLine+1<<17), "line 2: is longer than"},
	} {
		if _, err := readState(strings.NewReader(test.text)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%.80q: got %v, want %q in it", test.text, err, test.want)
		}
	}
}

// FuzzState checks that what is read is written the same.
func FuzzState(f *testing.F) {
	f.Add(written(f, someState()))
	f.Add(written(f, state{time: kept}))
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := readState(bytes.NewReader(data))
		if err != nil {
			return
		}
		again, err := readState(bytes.NewReader(written(t, s)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, again, comparing); diff != "" {
			t.Error(diff)
		}
	})
}

// FuzzEntry checks that entries of others are told from ours.
func FuzzEntry(f *testing.F) {
	f.Add("0000000000000001data")
	f.Add("00000000000000x1data")
	f.Add("-000000000000001")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := parseEntry(&request{key: "key", answer: text})
		if err != nil {
			return
		}
		if v.Version < 1 || v.Data == nil {
			t.Errorf("%q is read as %+v", text, v)
		}
		if again := versionText(v.Version) + string(v.Data); !strings.EqualFold(again, text) {
			t.Errorf("%q is read as %q", text, again)
		}
	})
}
