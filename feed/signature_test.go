package feed

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// testKey returns the n-th of some private keys.
func testKey(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func publicKey(n byte) ed25519.PublicKey {
	key, _ := testKey(n).Public().(ed25519.PublicKey)
	return key
}

func publicKeys(numbers ...byte) []ed25519.PublicKey {
	var keys []ed25519.PublicKey
	for _, n := range numbers {
		keys = append(keys, publicKey(n))
	}
	return keys
}

// signed returns the signatures of a body by some of the keys, as a server sends
// them.
func signed(body string, numbers ...byte) string {
	var list []string
	for _, n := range numbers {
		signature := ed25519.Sign(testKey(n), []byte("tollgate table v1\n"+body))
		list = append(list, "ed25519="+base64.StdEncoding.EncodeToString(signature))
	}
	return strings.Join(list, ", ")
}

// serveSigned answers with a body, its tag and the lines of its signature.
func serveSigned(tag, body string, signatures ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, s := range signatures {
			w.Header().Add("Tollgate-Signature", s)
		}
		serve(tag, body)(w, r)
	}
}

// The vector binds other implementations: seed 0x01 × 32 and the body "{}\n".
func TestSignatureVector(t *testing.T) {
	const header = "ed25519=" + vectorSignature
	key, err := base64.StdEncoding.DecodeString(vectorPublicKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verify([]ed25519.PublicKey{key}, []string{header}, []byte("{}\n")); err != nil {
		t.Error(err)
	}
	if got := signed("{}\n", 1); got != header {
		t.Errorf("got %s, want %s", got, header)
	}
}

const (
	vectorPublicKey = "iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w="
	vectorSignature = "OnAYYgy8gU3Auoq+8FoXYVVuOTN3WLMQicGCQzeJ5IM/3Xfc3w9ArXvqORLeENlVgLmDhPD4M5JZGMis9gb9Dg=="
)

func TestVerify(t *testing.T) {
	body := tableBody(42, "")
	right := signed(body, 1)
	short := "ed25519=" + base64.StdEncoding.EncodeToString(make([]byte, 63))
	unpadded := strings.TrimRight(right, "=")
	for _, row := range []struct {
		name   string
		keys   []ed25519.PublicKey
		header []string
		want   string // empty: no error
	}{
		{"signed", publicKeys(1), []string{right}, ""},
		{"signed by the second key", publicKeys(2, 1), []string{right}, ""},
		{"the second signature", publicKeys(1), []string{signed(body, 2, 1)}, ""},
		{"the second line", publicKeys(1), []string{signed(body, 2), right}, ""},
		{"beside one of the future", publicKeys(1), []string{"mldsa65=AAAA", right}, ""},
		{"beside a wrong one", publicKeys(1), []string{signed("x", 1), right}, ""},
		{"eight signatures", publicKeys(8), []string{signed(body, 1, 2, 3, 4, 5, 6, 7, 8)}, ""},
		{"no keys, no signature", nil, nil, ""},
		{"no keys, an empty header", nil, []string{""}, ""},

		{"unsigned", publicKeys(1), nil, "the table is not signed, expected a Tollgate-Signature by a key of sync.publicKey"},
		{"an empty header", publicKeys(1), []string{" "}, "the table is not signed"},
		{"another key", publicKeys(2), []string{right}, "the table is signed by none of the keys of sync.publicKey, or was changed on the way"},
		{"another table", publicKeys(1), []string{signed(tableBody(43, ""), 1)}, "signed by none"},
		{"without the prefix", publicKeys(1), []string{
			"ed25519=" + base64.StdEncoding.EncodeToString(ed25519.Sign(testKey(1), []byte(body))),
		}, "signed by none"},
		{"only one of the future", publicKeys(1), []string{"mldsa65=AAAA"}, "signed by none"},
		{"another algorithm's name", publicKeys(1), []string{strings.Replace(right, "ed25519", "ED25519", 1)}, "signed by none"},
		{"too short", publicKeys(1), []string{short}, "expected ed25519=<base64 of 64 bytes>"},
		{"no base64", publicKeys(1), []string{"ed25519=?"}, `Tollgate-Signature has "ed25519=?", expected`},
		{"without padding", publicKeys(1), []string{unpadded}, "expected ed25519=<base64 of 64 bytes>"},
		{"hex", publicKeys(1), []string{"ed25519=" + strings.Repeat("00", 64)}, "expected ed25519=<base64 of 64 bytes>"},
		{"a comma too many", publicKeys(1), []string{right + ","}, ""},
		{"nine signatures", publicKeys(1), []string{signed(body, 1, 2, 3, 4, 5, 6, 7, 8, 9)}, "has 9 signatures, expected 8 at most"},
		{"no keys, signed", nil, []string{right}, "the table is signed, but no key is set in sync.publicKey"},
	} {
		_, err := verify(row.keys, row.header, []byte(body))
		if row.want == "" && err != nil {
			t.Errorf("%s: got error %v", row.name, err)
		}
		if row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%s: got error %v, want %q in it", row.name, err, row.want)
		}
	}
}

// One bit more or less, in the body or in the signature, is refused.
func TestVerifyEachBit(t *testing.T) {
	body := []byte("{}")
	header := signed(string(body), 1)
	for i := 0; i < 8*len(body); i++ {
		changed := append([]byte(nil), body...)
		changed[i/8] ^= 1 << (i % 8)
		if _, err := verify(publicKeys(1), []string{header}, changed); err == nil {
			t.Errorf("bit %d of the body changed: accepted", i)
		}
	}
	signature, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(header, "ed25519="))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < 8*len(signature); i++ {
		signature[i/8] ^= 1 << (i % 8)
		changed := "ed25519=" + base64.StdEncoding.EncodeToString(signature)
		signature[i/8] ^= 1 << (i % 8)
		if _, err := verify(publicKeys(1), []string{changed}, body); err == nil {
			t.Errorf("bit %d of the signature changed: accepted", i)
		}
	}
}

// What is not signed as expected changes nothing; what is comes in force.
func TestSignedTables(t *testing.T) {
	old, young := tableBody(42, ""), tableBody(43, "")
	g := newRig(t, serveSigned(`"a"`, old, signed(old, 1)), nil, func(c *Config) { c.PublicKeys = publicKeys(1, 2) })
	g.time.poll(t)
	g.wantRevision(42)
	g.said()
	before := Current(g.feed)
	for _, row := range []struct {
		name   string
		handle http.HandlerFunc
		want   string
	}{
		{"not signed", serve(`"b"`, young), "the table is not signed"},
		{"signed by another", serveSigned(`"b"`, young, signed(young, 3)), "signed by none"},
		{"the old signature", serveSigned(`"b"`, young, signed(old, 1)), "signed by none"},
		{"the same table, not signed", serve(`"b"`, old), "the table is not signed"},
	} {
		g.answer(row.handle)
		g.time.poll(t)
		g.wantLine("!", row.want, "the last good table (revision 42) stays in force")
		if Current(g.feed) != before {
			t.Errorf("%s: it changed what is in force", row.name)
		}
		g.answer(serveSigned(`"a"`, old, signed(old, 1)))
		g.time.poll(t)
		g.wantLine("+", "answers again")
		before = Current(g.feed)
	}
	g.answer(serveSigned(`"b"`, young, signed(young, 2)))
	g.time.poll(t)
	g.wantRevision(43)
}

func TestSignedTableThatNobodyExpects(t *testing.T) {
	body := tableBody(42, "")
	g := newRig(t, serveSigned("", body, signed(body, 1)), nil, nil)
	g.time.poll(t)
	g.wantLine("!", "the table is signed, but no key is set in sync.publicKey", "no table yet")
}

// A feed takes over from another what one of its keys has signed, and looks at
// signatures that the other could not check.
func TestInheritedSignatures(t *testing.T) {
	body := tableBody(42, "")
	for _, row := range []struct {
		name          string
		before, after []byte // keys
		taken         bool
		tag           string // that the first request names
	}{
		{"the same keys", []byte{1}, []byte{1}, true, `"a"`},
		{"one more", []byte{1}, []byte{1, 2}, true, ""},
		{"one less", []byte{3, 1}, []byte{1}, true, ""},
		{"another", []byte{1}, []byte{2}, false, ""},
		{"none before", nil, []byte{1}, false, ""},
		{"none after", []byte{1}, nil, true, `"a"`},
	} {
		handle := serveSigned(`"a"`, body, signed(body, 1, 2))
		if row.before == nil {
			handle = serve(`"a"`, body)
		}
		site := newSite(t, handle)
		at := func(numbers []byte) func(*Config) {
			return func(c *Config) {
				c.Endpoints = []string{site.server.URL}
				c.PublicKeys = publicKeys(numbers...)
			}
		}
		first := newRig(t, nil, nil, at(row.before))
		first.time.poll(t)
		last := Current(first.feed)
		if last == nil {
			t.Fatalf("%s: got lines %q", row.name, first.said())
		}
		second := newRig(t, nil, last, at(row.after))
		if taken := Current(second.feed) != nil; taken != row.taken {
			t.Errorf("%s: the table was taken over: %t, want %t", row.name, taken, row.taken)
		}
		second.time.poll(t)
		if got := site.lastRequest().Header.Get("If-None-Match"); got != row.tag {
			t.Errorf("%s: got If-None-Match %q, want %q", row.name, got, row.tag)
		}
		if row.before != nil && row.after != nil {
			second.wantRevision(42)
			if got := len(Current(second.feed).proof.by); got != len(row.after) {
				t.Errorf("%s: afterwards %d of the keys have signed, want %d", row.name, got, len(row.after))
			}
		}
	}
}

// Whatever stands in the header, no table passes that the key has not signed.
func FuzzSignature(f *testing.F) {
	body := tableBody(42, "")
	f.Add(signed(body, 1), body)
	f.Add(signed(body, 2, 3), body)
	f.Add(signed(body, 1), tableBody(43, ""))
	f.Add("ed25519=", body)
	f.Add("ed25519="+strings.Repeat("A", 86)+"==", body)
	f.Add(",,;=ed25519", "")
	f.Add(fmt.Sprint(strings.Repeat("x,", 100)), "{}")
	key := publicKey(1)
	f.Fuzz(func(t *testing.T, header, text string) {
		p, err := verify([]ed25519.PublicKey{key}, []string{header}, []byte(text))
		if err != nil {
			if len(p.by) != 0 {
				t.Fatalf("got signers beside the error %v", err)
			}
			return
		}
		if len(p.by) != 1 || p.by[0] != string(key) {
			t.Fatalf("got signers %q", p.by)
		}
		// Only who has the private key could make another one that is right.
		right := strings.TrimPrefix(signed(text, 1), "ed25519=")
		if !strings.Contains(header, right) {
			t.Fatalf("%q was accepted for %q", header, text)
		}
		if _, err := successor(nil, question{}, answer{body: []byte(text), signatures: []string{header}}, nil, time.Time{}); err == nil {
			t.Fatal("a signed table was taken by a feed without keys")
		}
	})
}
