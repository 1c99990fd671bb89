package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"
)

var kept = time.Date(2026, 11, 21, 17, 0, 0, 123456789, time.UTC)

func someState() state {
	return state{time: kept, version: 7, entries: map[string]entry{
		"text":   {Value: Value{Data: []byte(`{"a":"<b>&\\"}`), Version: 1}},
		"binary": {Value: Value{Data: []byte("\x00\xff\n"), Version: 2}, until: kept.Add(time.Hour)},
		"lines":  {Value: Value{Data: []byte("a\nb"), Version: 3}},
		"empty":  {Value: Value{Data: []byte{}, Version: 7}},
		"ключ\n": {Value: Value{Data: []byte("\u2028 \ufffd"), Version: 4}, until: kept.Add(time.Nanosecond)},
		"ever":   {Value: Value{Data: []byte("data"), Version: 5}, until: kept.Add(1<<63 - 1)},
	}}
}

// written returns the file of a state.
func written(t testing.TB, s state) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state")
	file, err := createState(path, s)
	if err != nil {
		t.Fatal(err)
	}
	if err := file.close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

var comparing = cmp.Options{cmp.AllowUnexported(state{}, entry{}), cmp.Comparer(bytes.Equal)}

func TestState(t *testing.T) {
	large := state{time: kept, version: 100, entries: map[string]entry{}}
	for i := range 20 {
		large.entries[fmt.Sprint(i)] = entry{Value: Value{Data: bytes.Repeat([]byte{byte(i)}, MaxDataBytes/2), Version: int64(i + 1)}}
	}
	for _, s := range []state{someState(), {time: kept, entries: map[string]entry{}}, large} {
		if diff := cmp.Diff(s, readImage(t, written(t, s)), comparing); diff != "" {
			t.Error(diff)
		}
	}
}

// TestDamagedState cuts a file everywhere, and changes each byte that is not 0, and
// some that are.
//
// With the race detector come checks that end the process where bbolt follows what is
// wrong in a page of its own. There only data is changed.
func TestDamagedState(t *testing.T) {
	s := someState()
	// So large that the entries need several pages.
	for i := range 20 {
		s.entries[fmt.Sprint(i)] = entry{Value: Value{Data: bytes.Repeat([]byte("x"), 500), Version: 6}}
	}
	whole := written(t, s)
	path := filepath.Join(t.TempDir(), "state")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	found := 0
	check := func(what string, i int) {
		got, err := readState(path)
		switch {
		case err != nil && !errors.Is(err, errBadState):
			t.Errorf("%s %d of %d: got %v", what, i, len(whole), err)
		case err != nil:
			found++
		case !cmp.Equal(s, got, comparing):
			t.Errorf("%s %d of %d: is read as another state", what, i, len(whole))
		}
	}
	write := func(at int, data []byte) {
		if _, err := file.WriteAt(data, int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	write(0, whole)
	for i := range whole {
		if whole[i] == 0 && i%61 != 0 || underRace && (whole[i] != 'x' || i%3 != 0) {
			continue
		}
		flip := []byte{0x01, 0x80, 0xff}[i%7%3]
		write(i, []byte{whole[i] ^ flip})
		check("changed byte", i)
		write(i, whole[i:i+1])
	}
	if found < 20*150 {
		t.Errorf("%d changes were found", found)
	}
	for i := len(whole) - 1; i >= 0 && !underRace; i -= 61 {
		if err := file.Truncate(int64(i)); err != nil {
			t.Fatal(err)
		}
		check("cut at", i)
	}
}

// TestRoundInState has pages of a file name one that is above them.
func TestRoundInState(t *testing.T) {
	s := state{time: kept, version: 1, entries: map[string]entry{}}
	for i := range 3000 {
		s.entries[fmt.Sprintf("key%04d", i)] = entry{Value: Value{Data: bytes.Repeat([]byte("x"), 100), Version: 1}}
	}
	whole := written(t, s)
	size := os.Getpagesize()
	branches := 0
	for at := 0; at < len(whole); at += size {
		page := whole[at : at+size]
		count := int(binary.NativeEndian.Uint16(page[pageCount:]))
		if binary.NativeEndian.Uint64(page) != uint64(at/size) || binary.NativeEndian.Uint16(page[pageFlags:]) != branchFlag || count == 0 {
			continue
		}
		branches++
		for _, element := range []int{0, count - 1} {
			damaged := bytes.Clone(whole)
			binary.NativeEndian.PutUint64(damaged[at+pageHead+element*branchEntry+branchPage:], uint64(at/size))
			path := filepath.Join(t.TempDir(), "state")
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprintf("has page %d twice: it was changed or damaged", at/size)
			if _, err := readState(path); !errors.Is(err, errBadState) || err.Error() != want {
				t.Errorf("page %d, element %d: got %v, want %s", at/size, element, err, want)
			}
		}
	}
	if branches < 2 {
		t.Errorf("%d pages have others below them, want a tree of some", branches)
	}
}

func TestBadState(t *testing.T) {
	// file has entries, and a head.
	file := func(head string, entries map[string]string) []byte {
		path := filepath.Join(t.TempDir(), "state")
		db, err := bolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		put := func(tx *bolt.Tx, bucket, key []byte, value string) error {
			b, err := tx.CreateBucketIfNotExists(bucket)
			if err == nil && key != nil {
				err = b.Put(key, []byte(value))
			}
			return err
		}
		err = db.Update(func(tx *bolt.Tx) error {
			err := errors.Join(put(tx, headBucket, headKey, head), put(tx, entryBucket, nil, ""))
			for key, value := range entries {
				err = errors.Join(err, put(tx, entryBucket, []byte(key), value))
			}
			return err
		})
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	sealed := func(key, value string) string { return string(seal([]byte(key), []byte(value))) }
	head := func(h stateHead) string {
		text, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		return sealed("head", string(text))
	}
	one := func(key string, e entry) map[string]string {
		return map[string]string{key: sealed(key, string(e.encode()))}
	}
	good := entry{Value: Value{Version: 1, Data: []byte("data")}}
	many := func(entries int) string { return head(stateHead{stateFormat, kept, 1, entries}) }
	for _, test := range []struct {
		want string
		data []byte
	}{
		{"is empty", nil},
		{"is no state file of tollgate", []byte("\n")},
		{"is no state file of tollgate", bytes.Repeat([]byte("root:x:0:0\n"), 10000)},
		{"is no state file of tollgate", []byte(`{"format":"tollgate-state/1","time":"2026-11-21T17:00:00Z","version":0,"entries":0}`)},
		{"its head has 3 bytes, must have at least 4", file("abc", nil)},
		{"its head has the checksum 61626364", file("abcde", nil)},
		{"its head: unexpected end of JSON", file(sealed("head", "{"), nil)},
		{`has the format "tollgate-state/2", can read "tollgate-state/1"`, file(head(stateHead{Format: "tollgate-state/2"}), nil)},
		{"must be 0 or more", file(many(-1), nil)},
		{"at most 1048576 entries", file(many(maxEntries+1), nil)},
		{"has 0 entries, must have 1", file(many(1), nil)},
		{"has 1 entries, must have 0", file(many(0), one("k", good))},
		{`entry "k" has version 2, must be from 1 to 1`, file(many(1), one("k", entry{Value: Value{Version: 2}}))},
		{`entry "k" has version 0, must be from 1 to 1`, file(many(1), one("k", entry{}))},
		{`entry "k" has the checksum`, file(many(1), map[string]string{"k": sealed("l", string(good.encode()))})},
		{`entry "k" has 5 bytes, must have at least 20`, file(many(1), map[string]string{"k": sealed("k", "short")})},
		{`must have at most 4194304`, file(many(1), one("k", entry{Value: Value{Version: 1, Data: make([]byte, MaxDataBytes+1)}}))},
		{`entry "\xff" cannot be: key "\xff" is not UTF-8`, file(many(1), one("\xff", good))},
		{"must be less than a second", file(many(1), map[string]string{"k": sealed("k", strings.Repeat("\x00", 7)+"\x01"+strings.Repeat("\xff", 12))})},
	} {
		_, err := tryImage(t, test.data)
		if !errors.Is(err, errBadState) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%.80q: got %v, want %q in it", test.data, err, test.want)
		}
	}
}

// TestTornState stops the writing of a file at each point at which a crash of the
// system may: of what is written before the disk is told to keep it, any part may be
// there. The file is as before the change, or as after it once it is all there.
func TestTornState(t *testing.T) {
	const sector = 512
	page := os.Getpagesize()
	random := rand.New(rand.NewPCG(20261121, 1))
	path := filepath.Join(t.TempDir(), "state")
	s := someState()
	file, err := createState(path, s)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.close() }()
	read := func() []byte {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	before := read()
	for change := range 15 {
		entries, next := someChanges(random, s)
		if err := file.commit(entries, stateHead{stateFormat, next.time, next.version, len(next.entries)}); err != nil {
			t.Fatal(err)
		}
		after := read()
		want := func(what string, image []byte, want state) {
			t.Helper()
			got, err := tryImage(t, image)
			if err != nil {
				t.Fatalf("change %d: %s: %v", change, what, err)
			}
			if diff := cmp.Diff(want, got, comparing); diff != "" {
				t.Fatalf("change %d: %s: %s", change, what, diff)
			}
		}
		want("nothing", before, s)
		want("everything", after, next)
		// The file becomes longer before anything is written.
		image := append(bytes.Clone(before), make([]byte, len(after)-len(before))...)
		want("longer", image, s)
		var sectors []int
		for at := 2 * page; at < len(after); at += sector {
			if !bytes.Equal(image[at:at+sector], after[at:at+sector]) {
				sectors = append(sectors, at)
			}
		}
		random.Shuffle(len(sectors), func(i, j int) { sectors[i], sectors[j] = sectors[j], sectors[i] })
		for i, at := range sectors {
			if i%8 == 0 {
				want("some data", image, s)
			}
			copy(image[at:at+sector], after[at:at+sector])
		}
		want("all data", image, s)
		// One of the first two pages says which the others are.
		for at := range 2 * page {
			if image[at] != after[at] {
				want("a torn page", image, s)
				image[at] = after[at]
			}
		}
		want("all pages", image, next)
		s, before = next, after
	}
}

// someChanges returns changes of a state, and the state after them.
func someChanges(random *rand.Rand, s state) (changed map[string]entry, after state) {
	changed = map[string]entry{}
	after = state{time: s.time.Add(time.Second), version: s.version, entries: map[string]entry{}}
	for key, e := range s.entries {
		after.entries[key] = e
	}
	for range 1 + random.IntN(20) {
		key := fmt.Sprint("key", random.IntN(40))
		if random.IntN(4) == 0 {
			changed[key] = entry{}
			delete(after.entries, key)
			continue
		}
		after.version++
		e := entry{Value: Value{Data: bytes.Repeat([]byte{byte(random.IntN(256))}, random.IntN(3000)), Version: after.version}}
		changed[key], after.entries[key] = e, e
	}
	return changed, after
}

// FuzzEntries checks that what is read is written the same.
func FuzzEntries(f *testing.F) {
	for key, e := range someState().entries {
		f.Add([]byte(key), e.encode())
	}
	f.Add([]byte(""), []byte{})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		e, err := decodeEntry(key, seal(key, value))
		if err != nil {
			return
		}
		again := e.encode()
		other, err := decodeEntry(key, seal(key, again))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(e, other, comparing); diff != "" {
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
		v, err := parseEntry(&request{key: "key", answer: text}, 0)
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
