package server_test

import (
	"crypto/ed25519"
	"testing"
	"testing/synctest"

	"github.com/tollgate-apim/tollgate/controlplane/server"
	"github.com/tollgate-apim/tollgate/controlplane/signing"
	"github.com/tollgate-apim/tollgate/table"
)

func newKeys(t *testing.T, n int) []ed25519.PrivateKey {
	t.Helper()
	keys := make([]ed25519.PrivateKey, n)
	for i := range keys {
		var err error
		if keys[i], err = signing.New(); err != nil {
			t.Fatal(err)
		}
	}
	return keys
}

// expectSigned checks the signatures of what is served, and returns its tag.
func expectSigned(t *testing.T, s *server.Server, keys []ed25519.PrivateKey) (etag string) {
	t.Helper()
	res := get(s, "GET", table.Path)
	text := body(t, res)
	want := signing.Sign(keys, []byte(text))
	for _, r := range [...]struct{ method, encoding string }{{"GET", ""}, {"HEAD", ""}, {"GET", "gzip"}, {"HEAD", "gzip"}} {
		if got := get(s, r.method, table.Path, "Accept-Encoding", r.encoding).Header.Get("Tollgate-Signature"); got != want {
			t.Errorf("%s %s: got signatures %q, want %q", r.method, r.encoding, got, want)
		}
	}
	return res.Header.Get("ETag")
}

func TestSign(t *testing.T) {
	keys := newKeys(t, 2)
	s := quietServer()
	s.SignWith(keys[:1]) // before there is a table
	publish(t, s, newTable("Standard"))
	first := expectSigned(t, s, keys[:1])
	s.SignWith(keys)
	both := expectSigned(t, s, keys)
	gold := newTable("Gold")
	gold.Revision++
	publish(t, s, gold)
	expectSigned(t, s, keys)
	publish(t, s, newTable("Standard"))
	if again := expectSigned(t, s, keys); again != both {
		t.Errorf("the same table signed by the same keys has the tag %s, then %s", both, again)
	}
	s.SignWith(nil)
	none := expectSigned(t, s, nil)
	if first == both || both == none || none == first {
		t.Errorf("other signatures have the same tag: %s, %s, %s", first, both, none)
	}
	// By this, gateways know a table that another endpoint gave them.
	for _, tag := range []string{first, both} {
		if tag[:33] != none[:33] {
			t.Errorf("the tag %s does not begin with the hash of the body as %s does", tag, none)
		}
	}
}

// TestSignReleases signs anew while a request is held.
func TestSignReleases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newKeys(t, 2)
		s := quietServer()
		publish(t, s, newTable("Standard"))
		s.SignWith(keys[:1])
		answers := ask(t.Context(), s, "GET", "If-None-Match", tag(s), "Prefer", "wait=30")
		synctest.Wait()
		s.SignWith(keys[:1])
		synctest.Wait()
		select {
		case <-answers:
			t.Fatal("released by the keys that were there already")
		default:
		}
		s.SignWith(keys[1:])
		res := <-answers
		if want := signing.Sign(keys[1:], []byte(body(t, res))); res.StatusCode != 200 || res.Header.Get("Tollgate-Signature") != want {
			t.Errorf("got %d with signatures %q, want 200 with %q", res.StatusCode, res.Header.Get("Tollgate-Signature"), want)
		}
	})
}
