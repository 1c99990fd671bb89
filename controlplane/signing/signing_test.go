package signing_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/tollgate-apim/tollgate/controlplane/signing"
)

func newKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	key, err := signing.New()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func encode(t testing.TB, key ed25519.PrivateKey) string {
	t.Helper()
	data, err := signing.Encode(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestRoundTrip(t *testing.T) {
	key := newKey(t)
	for _, text := range []string{encode(t, key), "# a note\n" + encode(t, key) + "\n\n"} {
		if got, err := signing.Decode([]byte(text)); err != nil || !got.Equal(key) {
			t.Errorf("got %v, want the key back", err)
		}
	}
	if newKey(t).Equal(key) {
		t.Error("two keys are the same")
	}
}

func TestDecodeBad(t *testing.T) {
	key := newKey(t)
	good := encode(t, key)
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := x509.MarshalPKCS8PrivateKey(other)
	if err != nil {
		t.Fatal(err)
	}
	inPEM := func(kind string, data []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}))
	}
	for _, test := range []struct{ name, text, want string }{
		{"nothing", "", "holds no key in PEM"},
		{"the raw key", base64.StdEncoding.EncodeToString(key.Seed()), "holds no key in PEM"},
		{"cut off", good[:len(good)-20], "holds no key in PEM"},
		{"a certificate", inPEM("CERTIFICATE", foreign), "holds no key in PKCS #8"},
		{"encrypted", inPEM("ENCRYPTED PRIVATE KEY", foreign), "without a passphrase"},
		{"the public key", inPEM("PUBLIC KEY", foreign), "holds a public key"},
		{"two keys", good + good, "more than one"},
		{"damaged", inPEM("PRIVATE KEY", foreign[:20]), "damaged"},
		{"another kind", inPEM("PRIVATE KEY", foreign), "must be an ed25519 key"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := signing.Decode([]byte(test.text))
			if err == nil || got != nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want an error with %q", err, test.want)
			}
			if strings.Contains(err.Error(), strings.Split(good, "\n")[1][:20]) {
				t.Errorf("%q tells the key", err)
			}
		})
	}
}

// TestSign checks signatures by the words of docs/sync.md, not by our own code.
func TestSign(t *testing.T) {
	first, second := newKey(t), newKey(t)
	body := []byte(`{"revision":1}`)
	if got := signing.Sign(nil, body); got != "" {
		t.Errorf("without keys: got %q", got)
	}
	signatures := strings.Split(signing.Sign([]ed25519.PrivateKey{first, second}, body), ", ")
	if len(signatures) != 2 {
		t.Fatalf("got %q, want two", signatures)
	}
	for i, key := range []ed25519.PrivateKey{first, second} {
		public, err := base64.StdEncoding.DecodeString(signing.PublicKey(key))
		if err != nil {
			t.Fatal(err)
		}
		text, ok := strings.CutPrefix(signatures[i], "ed25519=")
		signature, err := base64.StdEncoding.DecodeString(text)
		if !ok || err != nil || !ed25519.Verify(public, []byte("tollgate table v1\n"+string(body)), signature) {
			t.Errorf("%q is not the signature of %q by %s", signatures[i], body, signing.PublicKey(key))
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(encode(f, newKey(f))))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		key, err := signing.Decode(data)
		if err != nil {
			return
		}
		again, err := signing.Decode([]byte(encode(t, key)))
		if err != nil || !again.Equal(key) {
			t.Errorf("a key does not come back: %v", err)
		}
	})
}
