package tollgate

import (
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/tollgate-apim/tollgate/hashing"
	"github.com/tollgate-apim/tollgate/table"
)

// identityRig returns a middleware for a key "k" with a title.
func identityRig(t *testing.T, title string, names IdentityHeaders) *rig {
	rows := testTable(table.Plan{})
	rows.Keys[hashing.Digest("k")] = []table.Holder{{Application: "apps/ann", Title: title}}
	withSources(t, holding(rows, 0))
	c := testConfig(weatherAPI)
	c.IdentityHeaders = names
	return newRig(t, c)
}

func TestIdentityHeaders(t *testing.T) {
	usual := CreateConfig().IdentityHeaders
	for _, test := range []struct {
		name  string
		title string
		names IdentityHeaders
		sent  []string
		want  http.Header
	}{
		{"usual", "mobile", usual, nil, http.Header{
			"X-App-Id": {"ann"}, "X-Subscription": {"apps/sub"}, "X-Api-Plan": {"apps/plan"}, "X-Api-Key-Title": {"mobile"}}},
		{"forged", "mobile", usual, []string{"X-App-Id: eve", "x-subscription: eve", "X-API-PLAN: eve", "x-api-key-title: eve"}, http.Header{
			"X-App-Id": {"ann"}, "X-Subscription": {"apps/sub"}, "X-Api-Plan": {"apps/plan"}, "X-Api-Key-Title": {"mobile"}}},
		{"forged several times", "mobile", usual, []string{"X-App-Id: eve", "X-App-Id: eve", "x-app-id: "}, http.Header{
			"X-App-Id": {"ann"}, "X-Subscription": {"apps/sub"}, "X-Api-Plan": {"apps/plan"}, "X-Api-Key-Title": {"mobile"}}},
		{"no title", "", usual, []string{"X-Api-Key-Title: eve"}, http.Header{
			"X-App-Id": {"ann"}, "X-Subscription": {"apps/sub"}, "X-Api-Plan": {"apps/plan"}}},
		{"names of one's own, in any case", "mobile", IdentityHeaders{AppID: "x-consumer", KeyTitle: "X-KEY"},
			[]string{"X-Consumer: eve", "X-App-Id: not ours"}, http.Header{
				"X-Consumer": {"ann"}, "X-Key": {"mobile"}, "X-App-Id": {"not ours"}}},
		{"no names", "mobile", IdentityHeaders{}, []string{"X-App-Id: not ours"}, http.Header{"X-App-Id": {"not ours"}}},

		{"control characters", "a\r\nX-App-Id: eve\x00\x7f\tb\n", IdentityHeaders{KeyTitle: "X-Key"}, nil, http.Header{
			"X-Key": {"a  X-App-Id: eve   b"}}},
		{"letters beyond ASCII", "Schlüssel 钥匙", IdentityHeaders{KeyTitle: "X-Key"}, nil, http.Header{"X-Key": {"Schlüssel 钥匙"}}},
		{"a title of control characters", "\r\n", IdentityHeaders{KeyTitle: "X-Key"}, []string{"X-Key: eve"}, http.Header{}},

		{"Connection lists an identity header", "mobile", IdentityHeaders{AppID: "X-App-Id"}, []string{"Connection: X-App-Id"}, http.Header{
			"X-App-Id": {"ann"}}},
		{"in another case, among others", "mobile", IdentityHeaders{AppID: "X-App-Id"}, []string{"Connection: keep-alive ,x-APP-id\t,Upgrade", "Connection: close, X-App-Id"}, http.Header{
			"X-App-Id": {"ann"}, "Connection": {"keep-alive, Upgrade, close"}}},
		{"the title, which is absent", "", IdentityHeaders{KeyTitle: "X-Key"}, []string{"Connection: X-Key, X-Other"}, http.Header{
			"Connection": {"X-Other"}}},
		{"a Connection that lists others", "mobile", IdentityHeaders{AppID: "X-App-Id"}, []string{"Connection: Upgrade", "X-Other: 1"}, http.Header{
			"X-App-Id": {"ann"}, "Connection": {"Upgrade"}, "X-Other": {"1"}}},
	} {
		r := identityRig(t, test.title, test.names)
		r.do("GET", "/weather?api_key=k", test.sent...)
		if r.upstream == nil {
			t.Fatalf("%s: refused", test.name)
		}
		if got := r.upstream.Header; !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

// What an upstream or a middleware does to one request's headers does not show
// in the next.
func TestRequestsDoNotShareHeaders(t *testing.T) {
	r := identityRig(t, "mobile", CreateConfig().IdentityHeaders)
	for i := 0; i < 2; i++ {
		r.do("GET", "/weather?api_key=k")
		if got := r.upstream.Header.Values("X-App-Id"); !reflect.DeepEqual(got, []string{"ann"}) {
			t.Fatalf("request %d: got X-App-Id %q", i+1, got)
		}
		r.upstream.Header.Add("X-App-Id", "eve")
		r.upstream.Header.Set("X-App-Id", "eve")

		w := r.do("GET", "/weather")
		if got := w.Header().Values("Cache-Control"); !reflect.DeepEqual(got, []string{"no-store"}) {
			t.Fatalf("refusal %d: got Cache-Control %q", i+1, got)
		}
		w.Header().Add("Cache-Control", "private")
	}
}

func TestHeaderValue(t *testing.T) {
	for b := 0; b < 256; b++ {
		got := headerValue("a" + string([]byte{byte(b)}) + "b")
		want := "a" + string([]byte{byte(b)}) + "b"
		if b < ' ' || b == 0x7f {
			want = "a b"
		}
		if got != want {
			t.Errorf("byte %#x: got %q, want %q", b, got, want)
		}
	}
	if got := headerValue(strings.Repeat("\n", 3) + "x"); got != "x" {
		t.Errorf("got %q, want no space around", got)
	}
}
