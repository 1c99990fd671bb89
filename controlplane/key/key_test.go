package key_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/tollgate-apim/tollgate/controlplane/key"
)

const secretDigest = "72bf16ddecb7a3ec04b5ce0296f85a0ab9d049105243b4b7924a340f26523e7d743e24126ced93e9dde63d1b4f73c242c5f0ed97cce394a5aee3ecdb3866d84f"

func TestDigest(t *testing.T) {
	if got := key.Digest("secret-api-key"); got != secretDigest {
		t.Errorf("got %s, want %s", got, secretDigest)
	}
}

func TestNew(t *testing.T) {
	form := regexp.MustCompile(`^tg_[0-9A-Za-z]{34}$`)
	seen := map[string]bool{}
	digits := map[rune]bool{}
	for range 200 {
		k, err := key.New(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if !form.MatchString(k) || seen[k] || key.Mistyped(k) {
			t.Fatalf("not a fresh, well-formed key")
		}
		seen[k] = true
		for _, d := range k[3:] {
			digits[d] = true
		}
	}
	if len(digits) != 62 {
		t.Errorf("200 keys use %d digits, want all 62", len(digits))
	}
}

// TestNewIsUnbiased feeds every byte once: each digit must come out four times.
func TestNewIsUnbiased(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	count := map[byte]int{}
	// 252 = 9 × 28 is how many bytes nine draws read when none is refused.
	random := io.MultiReader(bytes.NewReader(all[:248]), bytes.NewReader(make([]byte, 4)))
	for range 9 {
		k, err := key.New(random)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 28 {
			count[k[3+i]]++
		}
	}
	for d, n := range count {
		want := 4
		if d == '0' {
			want = 8
		}
		if n != want {
			t.Errorf("digit %q came %d times, want %d", d, n, want)
		}
	}
	k, err := key.New(bytes.NewReader(append(bytes.Repeat([]byte{248}, 28), make([]byte, 28)...)))
	if err != nil {
		t.Fatal(err)
	}
	if want := "tg_" + strings.Repeat("0", 28); !strings.HasPrefix(k, want) {
		t.Errorf("bytes over 247 were not drawn again")
	}
}

func TestNewReportsTheSource(t *testing.T) {
	want := errors.New("no entropy")
	if _, err := key.New(iotest.ErrReader(want)); !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

func TestMistyped(t *testing.T) {
	k, err := key.New(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other := "a"
	if k[10] == 'a' {
		other = "b"
	}
	for _, test := range []struct {
		name string
		key  string
		want bool
	}{
		{"as made", k, false},
		{"one digit changed", k[:10] + other + k[11:], true},
		{"cut short", k[:len(k)-1], true},
		{"from elsewhere", "secret-api-key", false},
		{"empty", "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := key.Mistyped(test.key); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestParseDigest(t *testing.T) {
	for _, test := range []struct {
		name string
		text string
		want string
	}{
		{"as it is", secretDigest, secretDigest},
		{"upper case", strings.ToUpper(secretDigest), secretDigest},
		{"white space", " \t" + secretDigest + "\r\n", secretDigest},
		{"short", secretDigest[1:], ""},
		{"long", secretDigest + "0", ""},
		{"not hex", "g" + secretDigest[1:], ""},
		{"white space inside", secretDigest[:64] + " " + secretDigest[64:], ""},
		{"a key", "secret-api-key", ""},
		{"empty", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := key.ParseDigest(test.text)
			if got != test.want || (err == nil) != (test.want != "") {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
			if err != nil && !errors.Is(err, key.ErrNotDigest) {
				t.Errorf("got error %v, want ErrNotDigest", err)
			}
		})
	}
}
